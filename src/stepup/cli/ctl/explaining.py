"""`stepup ctl check`: how a check of a person would be answered now. It allows nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer

from stepup.cli import output
from stepup.cli.completion import complete_operation
from stepup.cli.ctl.operating import Operating, operating
from stepup.cli.session_ids import read_session_id
from stepup.domain.actor import AccountType, PlaybookTrigger, Role, Team

if TYPE_CHECKING:
    from stepup.client import ActorContext
    from stepup.client.messages import step_up


@operating
def check(
    work: Operating,
    *,
    user: Annotated[str, typer.Option(help="The id of the person.")],
    operation: Annotated[
        str, typer.Option(autocompletion=complete_operation, help="The id of the operation.")
    ],
    target: Annotated[str, typer.Option(help="The object of the action.")] = "",
    session_id_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the id of the sign-in session; - for standard input. Default: a"
            " session without an elevation."
        ),
    ] = None,
    challenge_id: Annotated[
        str, typer.Option(help="The id of a challenge that has the action.")
    ] = "",
    account_type: Annotated[
        AccountType, typer.Option(help="How the person signs in.")
    ] = AccountType.LOCAL,
    role: Annotated[Role, typer.Option(help="The role of the person.")] = Role.OTHER,
    team: Annotated[Team, typer.Option(help="The team of the person.")] = Team.OTHER,
    playbook_trigger: Annotated[
        PlaybookTrigger | None, typer.Option(help="What started the playbook run that acts.")
    ] = None,
    explain: Annotated[  # noqa: ARG001  # an operator makes no decisions: there is only this
        bool, typer.Option("--explain", help="Explain, which this command always does.")
    ] = True,
) -> None:
    """Explain how a check would be answered now: which rule decides, and why no earlier one does.

    The server makes no decision, uses up nothing and writes no line of the decision log. An
    operator's question is an audit event.

    The exit code is 0 if the action would be allowed, 1 if not, 2 if the command failed.
    """
    from stepup.client.messages import actor, step_up  # noqa: PLC0415  # a help needs no client

    # Without a file a session that nobody has, and that is never elevated.
    session_id = read_session_id(session_id_file) if session_id_file else f"stepup-ctl-{uuid4()}"
    run = None
    if playbook_trigger is not None:
        run = actor.PlaybookRun(
            playbook_id="stepup-ctl",
            run_id="stepup-ctl",
            trigger=actor.PlaybookTrigger.Value(f"PLAYBOOK_TRIGGER_{playbook_trigger.name}"),
        )
    subject: ActorContext = actor.ActorContext(
        tenant_id=work.tenant,
        user_id=user,
        session_id=session_id,
        account_type=actor.AccountType.Value(f"ACCOUNT_TYPE_{account_type.name}"),
        role=actor.Role.Value(f"ROLE_{role.name}"),
        team=actor.Team.Value(f"TEAM_{team.name}"),
        playbook_run=run,
        challenge_id=challenge_id,
    )
    explained = work.client.explain(work.actor, subject, operation, target=target)
    _write(explained, as_json=work.as_json)
    if explained.decision != step_up.DECISION_ALLOWED:
        raise typer.Exit(1)


def _write(explained: "step_up.ExplainStepUpResponse", *, as_json: bool) -> None:
    from stepup.cli.ctl.messages import fields_of, word_of  # noqa: PLC0415  # as above
    from stepup.client.messages import step_up  # noqa: PLC0415  # as above

    if as_json:
        output.write_json(fields_of(explained))
        return
    decision = word_of(step_up.Decision.DESCRIPTOR, explained.decision)
    reasons = step_up.DecisionReason.DESCRIPTOR
    output.write(f"{decision}: {word_of(reasons, explained.reason)}")
    needs = explained.requirement
    if needs.challenge:
        output.write("needs an approval of this action, by a challenge")
    elif needs.HasField("max_age"):
        output.write(f"needs a code of the last {needs.max_age.seconds} seconds")
    if detail := explained.detail:
        output.write(f"detail: {word_of(step_up.NotElevatedDetail.DESCRIPTOR, detail)}")
    if rejection := explained.challenge_rejection:
        word = word_of(step_up.ChallengeRejection.DESCRIPTOR, rejection)
        output.write(f"challenge_rejection: {word}")
    output.write()
    rows = [
        ("decides" if rule.matched else "", word_of(reasons, rule.reason), rule.explanation)
        for rule in explained.rules
    ]
    output.write_table(("", "rule", "explanation"), rows)
