"""Reads people, and shows them."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

from stepup.cli import output
from stepup.cli.ctl.challenges import showing as challenges
from stepup.cli.ctl.messages import fields_of, instant_shown, word_of
from stepup.cli.ctl.patience import call_patiently
from stepup.client.messages import people

if TYPE_CHECKING:
    from stepup.cli.ctl.operating import Operating

_COLUMNS: Final = ("user", "states", "enrolled", "locked until", "first asked", "last asked")
_PAGE: Final = 100


def write_people(work: "Operating", state: str) -> None:
    """Write the people in a state; all people, if the state is empty. Pages are read as needed.

    Raises:
        StepUpError: a page cannot be read; the people of earlier pages are written.
    """
    found = _people(work, people.PersonState.Value(f"PERSON_STATE_{state or 'UNSPECIFIED'}"))
    if work.as_json:
        for person in found:
            output.write_json(fields_of(person))
    else:
        of = f" in the state {state.lower()}" if state else ""
        empty = f"the service knows nobody of {work.tenant}{of}"
        output.write_table(_COLUMNS, map(_cells, found), empty=empty)


def write_counts(work: "Operating") -> None:
    """Write how many people are in each state.

    Raises:
        StepUpError: there is no answer.
    """
    counts = fields_of(work.client.people.list(work.actor, counts_only=True).counts)
    if work.as_json:
        output.write_json(counts)
    else:
        output.write_table(("state", "people"), counts.items())


def write_person(work: "Operating", user_id: str) -> None:
    """Write what the service knows of a person, and the challenges of the last day.

    Raises:
        StepUpError: the service knows nobody by this id, or there is no answer.
    """
    person = work.client.people.get(work.actor, user_id=user_id).person
    asked = work.client.challenges.list(work.actor, user_id=user_id).challenges
    if work.as_json:
        described = [fields_of(challenge) for challenge in asked]
        output.write_json({"person": fields_of(person), "challenges": described})
        return
    output.write_table(("person", person.user_id), _facts(person))
    output.write()
    challenges.write_list(person.user_id, asked)


def states_of(person: people.Person) -> str:
    """The states of a person, in words."""
    return ", ".join(word_of(people.PersonState.DESCRIPTOR, state) for state in person.states)


def _people(work: "Operating", state: people.PersonState.ValueType) -> Iterator[people.Person]:
    token = ""
    while True:
        page = call_patiently(
            partial(
                work.client.people.list, work.actor, state=state, page_size=_PAGE, page_token=token
            )
        )
        yield from page.people
        if not (token := page.next_page_token):
            return


def _cells(person: people.Person) -> tuple[str, ...]:
    return (
        person.user_id,
        states_of(person),
        instant_shown(person.enrollment.activated_at),
        instant_shown(person.enrollment.locked_until),
        instant_shown(person.first_asked_at),
        instant_shown(person.last_asked_at),
    )


def _facts(person: people.Person) -> list[tuple[str, object]]:
    enrollment = person.enrollment
    return [
        ("states", states_of(person)),
        ("enrolled", instant_shown(enrollment.activated_at)),
        ("has a reset code", "yes" if enrollment.has_reset_code else "no"),
        ("locked until", instant_shown(enrollment.locked_until)),
        ("unlocks left today", person.unlocks_remaining),
        ("MFA of the account", "on" if person.account_mfa_enabled else "off"),
        ("wizard open until", instant_shown(person.pending_until)),
        ("first asked", instant_shown(person.first_asked_at)),
        ("last asked", instant_shown(person.last_asked_at)),
    ]
