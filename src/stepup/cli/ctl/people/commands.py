"""`stepup ctl people`: see people, end locks, remove and import authenticators."""

from pathlib import Path
from typing import Annotated

import typer

from stepup.cli.ctl.operating import Operating, operating
from stepup.cli.output import failure

app = typer.Typer(help="The people of a business, and their authenticators.", no_args_is_help=True)


_User = Annotated[str, typer.Argument(metavar="USER", help="The id of the person.")]
_Users = Annotated[
    list[str] | None, typer.Argument(metavar="[USER]...", help="The ids of the people.")
]
_From = Annotated[
    Path | None,
    typer.Option("--from", help="A file with an id in each line; - for standard input."),
]
_DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only read the people, and say what the server would refuse."),
]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("list")
@operating
def list_(
    work: Operating,
    *,
    enrolled: Annotated[
        bool, typer.Option("--enrolled", help="Only people with an authenticator.")
    ] = False,
    pending: Annotated[
        bool, typer.Option("--pending", help="Only people with an open wizard.")
    ] = False,
    not_enrolled: Annotated[
        bool,
        typer.Option(
            "--not-enrolled", help="Only people without an authenticator, after a first check."
        ),
    ] = False,
    in_grace: Annotated[
        bool,
        typer.Option(
            "--in-grace", help="Only people who are not enrolled, and allowed until enroll_by."
        ),
    ] = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="Only people who must wait after wrong codes.")
    ] = False,
    suspended: Annotated[
        bool,
        typer.Option("--suspended", help="Only people who need a reset after wrong codes."),
    ] = False,
    counts: Annotated[bool, typer.Option("--counts", help="Only count, by state.")] = False,
) -> None:
    """List the people that the service knows, in the order of their ids; or those in one state."""
    from stepup.cli.ctl.people import reading  # noqa: PLC0415  # a help needs no client

    chosen = {
        "ENROLLED": enrolled,
        "PENDING": pending,
        "NOT_ENROLLED": not_enrolled,
        "IN_GRACE": in_grace,
        "LOCKED": locked,
        "SUSPENDED": suspended,
    }
    states = [state for state, is_chosen in chosen.items() if is_chosen]
    if len(states) + counts > 1:
        raise failure("give one state, or --counts, which counts all states")
    if counts:
        reading.write_counts(work)
    else:
        reading.write_people(work, "".join(states))


@app.command()
@operating
def show(work: Operating, user: _User) -> None:
    """Show a person: the authenticator, locks, and the challenges of the last day.

    The exit code is 0 if the service knows the person, 1 if not, 2 if the command failed.
    """
    from stepup.cli.ctl.people import reading  # noqa: PLC0415  # as above

    reading.write_person(work, user)


@app.command()
@operating
def unlock(
    work: Operating, users: _Users = None, *, file: _From = None, dry_run: _DryRun = False
) -> None:
    """End the lock after wrong codes, at most 3 times a day. A suspension needs a reset.

    The exit code is 0 if none of them is locked, 1 if some were refused, 2 if the command failed.
    """
    from stepup.cli.ctl.people import acts  # noqa: PLC0415  # as above

    acts.act_on(work, acts.UNLOCK, acts.users_of(users or (), file), dry_run=dry_run)


@app.command()
@operating
def reset(
    work: Operating,
    users: _Users = None,
    *,
    file: _From = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Remove the authenticator of people who lost it; they enrol again.

    The exit code is 0 if all are done, 1 if some were refused, 2 if the command failed.
    """
    from stepup.cli.ctl.people import acts  # noqa: PLC0415  # as above

    acts.act_on(work, acts.RESET, acts.users_of(users or (), file), dry_run=dry_run, yes=yes)


@app.command()
@operating
def revoke(
    work: Operating,
    users: _Users = None,
    *,
    file: _From = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """End all elevations, challenges and open wizards of people; the authenticators stay.

    The exit code is 0 if all are done, 1 if some were refused, 2 if the command failed.
    """
    from stepup.cli.ctl.people import acts  # noqa: PLC0415  # as above

    acts.act_on(work, acts.REVOKE, acts.users_of(users or (), file), dry_run=dry_run, yes=yes)


@app.command()
@operating
def forget(
    work: Operating,
    users: _Users = None,
    *,
    file: _From = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Delete everything that is in force for people who left. Audit events keep their ids.

    The exit code is 0 if all are done, 1 if some were refused, 2 if the command failed.
    """
    from stepup.cli.ctl.people import acts  # noqa: PLC0415  # as above

    acts.act_on(work, acts.FORGET, acts.users_of(users or (), file), dry_run=dry_run, yes=yes)


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
    from stepup.cli.ctl.people import importing  # noqa: PLC0415  # a help needs no client

    rows = importing.rows_of(files, users, issuer)
    if not importing.import_rows(work.client, work.actor, rows, apply=apply, as_json=work.as_json):
        raise typer.Exit(1)
