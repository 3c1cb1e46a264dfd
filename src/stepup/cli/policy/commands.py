"""`stepup policy`: questions about policies, answered from files without a server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from stepup.cli import output
from stepup.cli.decisions.reading import LogsError, Selection
from stepup.cli.options import failure
from stepup.cli.times import FORMS, TimeTextError, instant_of

app = typer.Typer(
    help="Answer questions about policies from files, without a server.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    pass


@app.command()
def simulate(
    *,
    policy: Annotated[
        str, typer.Option(metavar="FILE", help="The policy, in JSON or YAML; - for standard input.")
    ],
    decisions: Annotated[
        list[str],
        typer.Option(
            metavar="LOG",
            envvar="STEPUP_DECISION_LOGS",
            help="A decision log, a pattern such as 'logs/*.jsonl', or -; give it several times"
            " for several servers.",
        ),
    ],
    before: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A policy to compare with, simulated as well. Default: the recorded answers.",
        ),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The business. Default: the one of the policy or the logs.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help=f"Only decisions from this instant on: {FORMS}.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only decisions before this instant.")] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture into this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Decide recorded checks again under another policy: which prompts it adds and removes.

    A prompt is a call whose answer demands a code. Each prompt is answered at once. The retry of
    an action that needed no code when it was recorded had no receipt, so it counts as a prompt.

    The exit code is 0, or 2 if the command failed.
    """
    from stepup.cli.policy.picture import PictureError  # noqa: PLC0415  # a server simulates nothing
    from stepup.cli.policy.simulate import simulate_policy  # noqa: PLC0415  # as above
    from stepup.cli.policy_files import PolicyFileError  # noqa: PLC0415  # as above

    selection = Selection(_instant("--since", since), _instant("--until", until), tenant)
    try:
        simulation = simulate_policy(policy, before, decisions, selection)
        if svg is not None:
            svg.write_text(simulation.picture(), "utf-8")
    except (PolicyFileError, LogsError, PictureError) as error:
        raise failure(output.plain(error)) from error
    except OSError as error:
        raise failure(f"{output.plain(svg)}: {error.strerror}") from error
    if simulation.skipped:
        output.write_problem(
            f"{simulation.skipped} decisions are left out: a newer release may have written them"
        )
    if as_json:
        output.write_json(simulation.as_json())
    else:
        simulation.write()


def _instant(option: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else instant_of(text, datetime.now(UTC))
    except TimeTextError as error:
        raise failure(f"{option} {output.plain(error)}") from error
