"""`stepup decisions`: why, how often, and for whom a code was asked or not."""

import json
from pathlib import Path
from typing import Annotated

import typer

from stepup.cli import output
from stepup.cli.decisions.following import write_last
from stepup.cli.decisions.options import AsJson, Files, Since, Tenant, Until, User, logs_read
from stepup.cli.decisions.reading import COLUMNS, LINE, Selection
from stepup.cli.decisions.sources import LogsError
from stepup.cli.ocsf.decisions import ocsf_decision
from stepup.cli.output import ExportFormat, failure
from stepup.cli.session_ids import read_session_id
from stepup.cli.times import FORMS, instant_option
from stepup.domain.actor import Actor, SessionId, TenantId, UserId, folded
from stepup.domain.errors import InvalidValueError

app = typer.Typer(help="Questions about the decision logs of all servers.", no_args_is_help=True)
_FoldCase = Annotated[
    bool,
    typer.Option("--fold-case", help="The setting identity.fold_case of the servers is true."),
]


@app.command()
def why(
    files: Files,
    *,
    user: Annotated[str, typer.Option(help="The person.")],
    at: Annotated[str, typer.Option(help=f"The minute: {FORMS}.")],
    tenant: Tenant = None,
    session: Annotated[str | None, typer.Option(help="The hash of the sign-in session.")] = None,
    session_id_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the session's id, instead of --session; - for standard input."
        ),
    ] = None,
    fold_case: _FoldCase = False,
    audit: Annotated[
        list[Path] | None,
        typer.Option(help="A file of `audit export` or `ctl audit list --json`; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a person had to give a code at a time, or why not.

    The command takes a prompt within the minute, or else the decision nearest to it, and says how
    far that one is. It shows what was asked, what was answered, the reason, and the decisions
    before and after in the same session. With --audit it also shows sign-outs, revocations and
    attempts with codes.

    The exit code is 0 if there is a decision within the minute, 1 if not, 2 if the command failed.
    """
    from stepup.cli.decisions.why import (  # noqa: PLC0415  # a help explains nothing
        SeveralTenantsError,
        story_of,
        write_story,
    )

    instant = instant_option("--at", at)
    assert instant is not None  # noqa: S101  # for mypy: it is required
    minute = instant.replace(second=0, microsecond=0)
    if session_id_file is not None:
        if tenant is None:
            raise failure("--session-id-file needs --tenant: the hash depends on the business")
        session = _session_hash(tenant, user, session_id_file, fold_case=fold_case)
    selection = Selection(tenant_id=tenant, user_id=user)
    with logs_read(files, selection, (*COLUMNS, LINE)) as decisions:
        try:
            story = story_of(decisions, minute, session, audit or ())
        except SeveralTenantsError as error:
            problem = f"several businesses have {user}: {error}; give --tenant"
            raise failure(problem) from error
    if story is None:
        output.write_problem("no decision about this person is in these logs")
        raise typer.Exit(1)
    if as_json:
        output.write_json(story.as_json())
    else:
        write_story(story)
    if story.distance:
        raise typer.Exit(1)


@app.command()
def stats(
    files: Files,
    *,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Count exemptions by caller and reason, prompts of each person, and operations.

    A prompt is a call that asked for a code or for an enrollment. Repeated decisions do not count.
    """
    from stepup.cli.decisions import statistics  # noqa: PLC0415  # a help counts nothing

    selection = Selection(
        instant_option("--since", since), instant_option("--until", until), tenant, user
    )
    with logs_read(files, selection, statistics.COLUMNS) as decisions:
        counts = statistics.statistics_of(decisions)
    if as_json:
        output.write_json(counts)
    else:
        statistics.write_statistics(counts)


@app.command()
def tail(
    files: Files,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Write new decisions until Ctrl-C.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, help="How many earlier decisions to show first.")
    ] = 10,
    tenant: Tenant = None,
    user: User = None,
    as_json: AsJson = False,
) -> None:
    """Write the last decisions, and with --follow each new one, also after a rotation of the logs.

    Standard input is written whole, for `kubectl logs --follow ... | stepup decisions tail -`. The
    command reads no compressed files, and leaves out lines that are not decisions.
    """
    try:
        write_last(files, lines, follow=follow, tenant_id=tenant, user_id=user, as_json=as_json)
    except LogsError as error:
        raise failure(error) from error
    except KeyboardInterrupt:
        return


@app.command()
def export(
    files: Files,
    *,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="jsonl: as logged; or ocsf.")
    ] = ExportFormat.JSONL,
    since: Since = None,
    until: Until = None,
    tenant: Tenant = None,
    user: User = None,
) -> None:
    """Write the decisions of all servers in the order of time, one JSON object in each line.

    The exit code is 0 if all are written, 1 if the format has no form for some, which standard
    error counts, 2 if the command failed.
    """
    selection = Selection(
        instant_option("--since", since), instant_option("--until", until), tenant, user
    )
    left_out = 0
    with logs_read(files, selection, (LINE,)) as decisions:
        for row in decisions.in_order():
            try:
                line = json.loads(row[LINE])
                output.write_json(ocsf_decision(line) if form is ExportFormat.OCSF else line)
            except (KeyError, ValueError, OverflowError, RecursionError):
                left_out += 1
    if left_out:
        counted = "1 decision has" if left_out == 1 else f"{left_out} decisions have"
        output.write_problem(f"{counted} no form in {form.value}: left out")
        raise typer.Exit(1)


@app.command()
def session_hash(
    *,
    tenant: Annotated[str, typer.Option(help="The business.")],
    user: Annotated[str, typer.Option(help="The person.")],
    session_id_file: Annotated[
        Path,
        typer.Option(help="A file with the id of the sign-in session. Default: standard input."),
    ] = Path("-"),
    fold_case: _FoldCase = False,
) -> None:
    """Print the hash that stands for a sign-in session in decision logs and audit events.

    A terminal asks for the session's id, and does not show it.
    """
    output.write(_session_hash(tenant, user, session_id_file, fold_case=fold_case))


def _session_hash(tenant: str, user: str, session_id_file: Path, *, fold_case: bool) -> str:
    """The hash of a session whose id is in a file.

    Raises:
        typer.Exit: the file cannot be read, or an id is not valid; status 2.
    """
    if fold_case:
        tenant, user = folded(tenant), folded(user)
    session_id = read_session_id(session_id_file)
    try:
        return Actor(TenantId(tenant), UserId(user), SessionId(session_id)).session_hash
    except InvalidValueError as error:
        raise failure(error) from error
