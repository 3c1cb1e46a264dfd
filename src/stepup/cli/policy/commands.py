"""`stepup policy`: questions about policies, answered from files without a server."""

from pathlib import Path
from typing import Annotated

import typer

from stepup.cli import output
from stepup.cli.completion import complete_operation
from stepup.cli.decisions.options import AsJson, Logs, Since, Tenant, Until
from stepup.cli.decisions.reading import Selection
from stepup.cli.output import failure
from stepup.cli.times import instant_option

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
    logs: Logs,
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPERATION",
            autocompletion=complete_operation,
            help="Select this operation as well, with a code of the last 15 minutes. Repeatable.",
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A policy to compare with, simulated as well. Default: the recorded answers.",
        ),
    ] = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a picture into this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide recorded checks again under another policy: which prompts it adds and removes.

    A prompt is a call whose answer demands a code, an approval or an enrollment. The simulation
    assumes that people answer each prompt at once. The retry of an action that needed no code when
    it was recorded had no receipt, so it is decided as any other call.

    The exit code is 0, or 2 if the command failed.
    """
    from stepup.cli.policy.picture import ChartError  # noqa: PLC0415  # a help simulates nothing
    from stepup.cli.policy.simulate import simulate_policy  # noqa: PLC0415  # as above
    from stepup.cli.policy_files import PolicyFileError  # noqa: PLC0415  # as above

    selection = Selection(
        instant_option("--since", since), instant_option("--until", until), tenant
    )
    try:
        simulation = simulate_policy(policy, select or (), before, logs, selection)
        picture = None if svg is None else simulation.picture()
    except (PolicyFileError, ChartError) as error:
        raise failure(error) from error
    if as_json:
        output.write_json(simulation.as_json())
    else:
        simulation.write()
    if svg is not None and picture is not None:
        _write_picture(svg, picture)


def _write_picture(file: Path, picture: str) -> None:
    try:
        file.write_text(picture, "utf-8")
    except OSError as error:
        raise failure(f"--svg {file}: {error.strerror}") from error
