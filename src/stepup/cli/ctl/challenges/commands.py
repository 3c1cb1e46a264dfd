"""`stepup ctl challenges`: list and show what people are asked to approve, and withdraw it."""

from typing import TYPE_CHECKING, Annotated

import typer

from stepup.cli import output
from stepup.cli.ctl.operating import Operating, operating

if TYPE_CHECKING:
    from stepup.client.messages import challenge as messages

app = typer.Typer(help="The challenges that people are asked to approve.", no_args_is_help=True)
_ChallengeId = Annotated[
    str, typer.Argument(metavar="CHALLENGE", help="The id of the challenge: a UUID.")
]


@app.command("list")
@operating
def list_(
    work: Operating,
    user: Annotated[str, typer.Argument(metavar="USER", help="The id of the person.")],
) -> None:
    """List a person's challenges of the last day: pending ones first, then the newest."""
    from stepup.cli.ctl.challenges import showing  # noqa: PLC0415  # a help needs no client
    from stepup.cli.ctl.messages import fields_of  # noqa: PLC0415  # as above

    challenges = work.client.challenges.list(work.actor, user_id=user, page_size=100).challenges
    if work.as_json:
        for challenge in challenges:
            output.write_json(fields_of(challenge))
    else:
        showing.write_list(user, challenges)


@app.command()
@operating
def show(work: Operating, challenge: _ChallengeId) -> None:
    """Show a challenge: the actions, the answer, and what was used."""
    _write(work, work.client.challenges.get(work.actor, challenge_id=challenge).challenge)


@app.command()
@operating
def cancel(
    work: Operating,
    challenge: _ChallengeId,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Withdraw a challenge, also an approved one: none of its actions is allowed any more.

    The exit code is 0 if the challenge is cancelled, 1 if the rules refuse it, for example because
    it has ended, 2 if the command failed.
    """
    actor = work.actor
    output.demand_consent(
        f"Cancel the challenge {challenge} in {work.place}? None of its actions is allowed any"
        " more.",
        given=yes,
    )
    _write(work, work.client.challenges.cancel(actor, challenge_id=challenge).challenge)


def _write(work: Operating, challenge: "messages.Challenge") -> None:
    from stepup.cli.ctl.challenges import showing  # noqa: PLC0415  # a help needs no client
    from stepup.cli.ctl.messages import fields_of  # noqa: PLC0415  # as above

    if work.as_json:
        output.write_json(fields_of(challenge))
    else:
        showing.write_one(challenge)
