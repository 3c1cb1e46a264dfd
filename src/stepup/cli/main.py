"""The commands."""

from typing import Annotated, Final

import typer

from stepup.cli.completion import is_completing
from stepup.cli.deferred import MARKUP, group_of
from stepup.system.distribution import NAME, version

_COMMANDS: Final = {
    "serve": (
        "stepup.cli.serve:serve",
        "Serve the gRPC API. Without a configuration it listens on loopback, with embedded stores.",
    ),
    "check-config": (
        "stepup.cli.check_config.command:check_config",
        "Validate the configuration for serving, and show what is in effect, except URLs.",
    ),
    "doctor": (
        "stepup.cli.doctor.command:doctor",
        "Try everything that a server needs, and say what is wrong and what to do.",
    ),
    "coverage": (
        "stepup.cli.coverage.command:coverage",
        "Find gates that nobody passes: selected operations about which no program ever asks.",
    ),
    "completion": (
        "stepup.cli.completion:completion",
        "Print the script that completes commands and options.",
    ),
    "web": (
        "stepup.cli.web.command:web",
        "Serve the pages of the portal to browsers, as a caller of a core that runs elsewhere.",
    ),
    "migrate": (
        "stepup.cli.migrate:migrate",
        "Bring the database's schema up to date, before a new version serves.",
    ),
    "demo": (
        "stepup.cli.demo.play:demo",
        "Start a server with a temporary data directory, and show a step-up through its API.",
    ),
    "console": (
        "stepup.cli.console.run:console",
        "Start the portal with a demo business, and print links to its pages; Ctrl-C ends it.",
    ),
    "audit": (
        "stepup.cli.audit.commands:app",
        "Verify, sign, export and prune the audit events.",
    ),
    "break-glass": (
        "stepup.cli.break_glass.commands:app",
        "On a server's host: let the last administrator enrol again, without the API.",
    ),
    "decisions": (
        "stepup.cli.decisions.commands:app",
        "Questions about the decision logs of all servers.",
    ),
    "keys": (
        "stepup.cli.keys.commands:app",
        "Make, rotate and retire the keys of the key ring.",
    ),
    "ctl": (
        "stepup.cli.ctl.commands:app",
        "Call a running server, as an operator of the platform.",
    ),
    "policy": (
        "stepup.cli.policy.commands:app",
        "Answer questions about policies from files, without a server.",
    ),
}

app = typer.Typer(
    cls=group_of(_COMMANDS),
    help="Step-up authorization: must this person give a one-time code first?",
    no_args_is_help=True,
    add_completion=is_completing(),  # `stepup completion` prints the scripts, and installs nothing
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,  # its stacks show local variables, and so secrets (S11)
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{NAME} {version()}")
        raise typer.Exit


@app.callback()
def _accept_version(
    *,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass
