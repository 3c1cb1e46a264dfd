"""`stepup ctl audit`: list and follow the audit events of a business."""

from typing import Annotated, Final

import typer

from stepup.cli import times
from stepup.cli.ctl.operating import Operating, operating
from stepup.cli.output import failure
from stepup.domain.audit import EventKind
from stepup.system.near_names import instead_of

app = typer.Typer(help="The audit events of a business, read by the API.", no_args_is_help=True)
ADMINISTRATION: Final = (
    EventKind.POLICY_CHANGED,
    EventKind.POLICY_CHANGED_BY_OPERATOR,
    EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR,
    EventKind.AUTHENTICATOR_RESET_BY_OPERATOR,
    EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS,
    EventKind.AUTHENTICATOR_IMPORTED,
    EventKind.ELEVATIONS_REVOKED_BY_OPERATOR,
    EventKind.CHALLENGE_CANCELLED_BY_OPERATOR,
    EventKind.USER_UNLOCKED,
    EventKind.USER_UNLOCKED_BY_OPERATOR,
    EventKind.USER_FORGOTTEN,
    EventKind.USER_FORGOTTEN_BY_OPERATOR,
    EventKind.USER_DEPROVISIONED,
    EventKind.AUDIT_PRUNED,
)
"""The kinds of changes that one person makes for others."""


def _complete_kind(incomplete: str) -> list[str]:
    return [kind.value for kind in EventKind if kind.value.startswith(incomplete)]


_Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        help="Only events of this kind; may be repeated.",
        metavar="KIND",
        autocompletion=_complete_kind,
    ),
]
_Administration = Annotated[
    bool,
    typer.Option(
        "--administration",
        help="Only changes of the policy and of other people, by administrators, operators,"
        " programs, and commands on a server's host; and calls of operators that could have made"
        " such a change, and made none.",
    ),
]
_User = Annotated[str, typer.Option(help="Only events done by or to this person.")]


@app.command("list")
@operating
def list_(
    work: Operating,
    *,
    since: Annotated[str | None, typer.Option(help=f"The first instant: {times.FORMS}.")] = None,
    until: Annotated[str | None, typer.Option(help="The end, not included. Default: now.")] = None,
    kinds: _Kinds = None,
    administration: _Administration = False,
    user: _User = "",
    limit: Annotated[int, typer.Option(min=1, help="The most events to list.")] = 100,
) -> None:
    """List events, the newest first. Standard error says if older events were left out."""
    from stepup.cli.ctl.audit import reading  # noqa: PLC0415  # a help needs no client

    query = reading.Query(
        kinds=_chosen(kinds, administration=administration),
        attempts=administration,
        user_id=user,
        since=times.instant_option("--since", since, is_shown_always=True),
        until=times.instant_option("--until", until, is_shown_always=True),
    )
    reading.write_events(work, query, limit)


@app.command()
@operating
def tail(
    work: Operating,
    *,
    kinds: _Kinds = None,
    administration: _Administration = False,
    user: _User = "",
    lines: Annotated[
        int, typer.Option(min=0, max=100, help="How many earlier events to show first.")
    ] = 10,
) -> None:
    """Write events as they happen, until Ctrl-C.

    The command continues after a restart of the server.
    """
    from stepup.cli.ctl.audit import following, reading  # noqa: PLC0415  # as above

    query = reading.Query(
        kinds=_chosen(kinds, administration=administration),
        attempts=administration,
        user_id=user,
    )
    try:
        following.follow_events(work, query, lines)
    except KeyboardInterrupt:
        return


def _chosen(names: list[str] | None, *, administration: bool) -> frozenset[EventKind]:
    """The wanted kinds; empty if all are.

    Raises:
        typer.Exit: no kind has the name; status 2.
    """
    by_name = {kind.value: kind for kind in EventKind}
    for name in names or ():
        if name not in by_name:
            near = instead_of(name, (), by_name) or "; docs/auditing.md lists the kinds"
            raise failure(f"--kind: unknown: {name}{near}")
    return frozenset(
        [*(by_name[name] for name in names or ()), *(ADMINISTRATION if administration else ())]
    )
