"""`stepup ctl people`: import the authenticators that people have."""

from pathlib import Path
from typing import Annotated

import typer

from stepup.cli.ctl.operating import Operating, operating

app = typer.Typer(help="The people of a business, and their authenticators.", no_args_is_help=True)


@app.callback()
def _take_subcommands() -> None:
    """Keep the name of the only subcommand: without a callback typer drops it."""


@app.command("import")
@operating
def import_(
    work: Operating,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Text with a key URI or an export of Google Authenticator in each line, - for"
            " standard input; or a PNG or JPEG picture of the QR codes.",
        ),
    ],
    *,
    users: Annotated[
        Path | None,
        typer.Option(help="A CSV file: account,user_id. Default: the account is the user id."),
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Take only the authenticators of this issuer.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Import after the dry run. Default: dry run only.")
    ] = False,
) -> None:
    """Import the authenticators that people have, so that nobody has to enrol again.

    A dry run always comes first: the server checks everything, and registers nothing. With --apply
    the server then registers the authenticators that passed.

    The exit code is 0 if all passed, 1 if some were refused, 2 if the command failed. After a
    failure run the command again: authenticators that were imported are refused as
    has_authenticator.
    """
    from stepup.cli.ctl.people import importing  # noqa: PLC0415  # a server needs no client

    rows = importing.rows_of(files, users, issuer)
    if not importing.import_rows(work.client, work.actor, rows, apply=apply, as_json=work.as_json):
        raise typer.Exit(1)
