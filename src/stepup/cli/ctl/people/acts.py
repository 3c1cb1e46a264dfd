"""Acts on people, one by one: a refusal for one person does not stop the others."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from stepup.cli import output
from stepup.cli.ctl.patience import call_patiently
from stepup.cli.ctl.people.importing import NOT_KNOWN, READY
from stepup.cli.ctl.people.reading import states_of
from stepup.cli.ctl.problems import ID_ADVICE, REFUSED, problem_of
from stepup.cli.output import failure
from stepup.client import ActorContext, StepUpClient, StepUpError
from stepup.client.messages import people

if TYPE_CHECKING:
    from stepup.cli.ctl.operating import Operating

DONE: Final = "done"
NOT_SENT: Final = "not_sent"
_REFUSED: Final = "refused"
_OF_STRANGERS: Final = ("UNKNOWN_PERSON", "ENROLLMENT_STATE")
"""The reasons of refusals that a mistyped user id can have."""
_STDIN: Final = Path("-")


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator does to a person.

    Attributes:
        question: asks for consent; it has `{whom}`, and says what ends. Empty if the act takes
            nothing from the person: then nobody is asked.
        carry_out: makes the call for a user id.
        hindrance: why the server would refuse the act for a person, or for somebody whom the
            service does not know (None); empty if it would not.
    """

    question: str
    carry_out: Callable[[StepUpClient, ActorContext, str], object]
    hindrance: Callable[[people.Person | None], str]


@dataclass(slots=True)
class Result:
    """The result of an act for one person; the names of the fields are those in JSON.

    Attributes:
        user_id: the person.
        outcome: `done`; `ready` in a dry run; `refused`; `not_known` if the call failed, and the
            server may have carried it out; `not_sent` if an earlier call failed.
        reason: the reason of the server's error, such as `UNLOCK_LIMIT`.
        problem: why the act is refused, in a sentence.
        states: in a dry run, the states of the person.
    """

    user_id: str
    outcome: str = NOT_SENT
    reason: str = ""
    problem: str = ""
    states: str = ""


def _no_authenticator(person: people.Person | None) -> str:
    if person is None:
        return "the service knows nobody by this id"
    return "" if person.HasField("enrollment") else "the person has no authenticator"


def _not_unlockable(person: people.Person | None) -> str:
    if problem := _no_authenticator(person):
        return problem
    if person is not None and person.enrollment.suspended:
        return "the person is suspended: only a reset helps"
    if person is not None and people.PERSON_STATE_LOCKED in person.states:
        return "" if person.unlocks_remaining else "a user is unlocked at most 3 times a day"
    return ""


UNLOCK: Final = Act(
    "",
    lambda client, actor, user_id: client.people.unlock(actor, user_id=user_id),
    _not_unlockable,
)
RESET: Final = Act(
    "Remove the authenticator of {whom}? This also ends the reset code, open wizards, elevations"
    " and challenges, and turns MFA of the account off. The person has to enrol again.",
    lambda client, actor, user_id: client.enrollment.admin_reset(actor, user_id=user_id),
    _no_authenticator,
)
REVOKE: Final = Act(
    "End all elevations of {whom}? This also voids receipts, and ends challenges and open wizards."
    " The authenticator stays.",
    lambda client, actor, user_id: client.revoke_elevations(actor, user_id=user_id),
    lambda _: "",
)
FORGET: Final = Act(
    "Forget {whom}? This deletes the authenticator, the reset code, open wizards, the MFA of the"
    " account, elevations, challenges, receipts, locks, and devices in audit events, for ever.",
    lambda client, actor, user_id: client.people.forget(actor, user_id=user_id),
    lambda _: "",
)


def users_of(users: Sequence[str], file: Path | None) -> list[str]:
    """The user ids of the arguments and of a file, each once.

    A file has an id in each line; blank lines and lines that begin with `#` do not count.

    Raises:
        typer.Exit: the file cannot be read, or nobody is named.
    """
    lines: list[str] = []
    try:
        if file is not None:
            text = sys.stdin.read() if file == _STDIN else file.read_text("utf-8-sig")
            lines = [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) else "must be text in UTF-8"
        raise failure(f"{file}: {problem}") from error
    named = dict.fromkeys([*users, *(line for line in lines if line and not line.startswith("#"))])
    if not named:
        raise failure("give the id of a USER, or --from with a file of ids")
    return list(named)


def act_on(
    work: "Operating", act: Act, users: Sequence[str], *, dry_run: bool = False, yes: bool = False
) -> None:
    """Carry the act out for each person, and write the results.

    Args:
        work: the connection, and the operator.
        act: the act.
        users: the ids of the people.
        dry_run: whether to read the people only, and say what the server would refuse.
        yes: whether the operator has consented.

    Raises:
        typer.Exit: the server refused some; status 1.
        StepUpError: a call failed. The results name the people for whom nothing is known.
    """
    actor = work.actor
    if act.question and not dry_run:
        whom = users[0] if len(users) == 1 else f"{len(users)} people"
        output.demand_consent(act.question.format(whom=f"{whom} in {work.place}"), given=yes)
    results = [Result(user_id) for user_id in users]
    try:
        with output.tracked(results) as tracked:
            for result in tracked:
                _attempt(work.client, actor, act, result, dry_run=dry_run)
    finally:
        _report(results, as_json=work.as_json, dry_run=dry_run)
    if any(result.reason in _OF_STRANGERS for result in results):
        output.write_problem(ID_ADVICE)
    if any(result.outcome == _REFUSED for result in results):
        raise typer.Exit(REFUSED)


def _attempt(
    client: StepUpClient, actor: ActorContext, act: Act, result: Result, *, dry_run: bool
) -> None:
    """Carry the act out for one person, or only ask about the person, and note the result.

    Raises:
        StepUpError: the call failed, for a reason that is not this person's.
    """
    result.outcome = NOT_KNOWN
    try:
        if dry_run:
            _predict(client, actor, act, result)
        else:
            call_patiently(lambda: act.carry_out(client, actor, result.user_id))
            result.outcome = DONE
    except StepUpError as error:
        if problem_of(error).exit_code != REFUSED and error.field != "user_id":
            raise
        result.outcome, result.reason, result.problem = _REFUSED, error.reason, str(error)


def _predict(client: StepUpClient, actor: ActorContext, act: Act, result: Result) -> None:
    person = None
    try:
        person = call_patiently(lambda: client.people.get(actor, user_id=result.user_id)).person
        result.states = states_of(person)
    except StepUpError as error:
        if error.reason != "UNKNOWN_PERSON":
            raise
    result.problem = act.hindrance(person)
    result.outcome = _REFUSED if result.problem else READY


def _report(results: Sequence[Result], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        for result in results:
            output.write_json(asdict(result) | {"dry_run": dry_run})
        return
    columns = ("user", "outcome", *(["states"] if dry_run else []), "problem")
    output.write_table(
        columns,
        [
            (each.user_id, each.outcome, *([each.states] if dry_run else []), each.problem)
            for each in results
        ],
    )
