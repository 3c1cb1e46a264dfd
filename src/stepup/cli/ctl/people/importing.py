"""Sends the authenticators of files to a server: a dry run, and the import."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stepup.cli import output
from stepup.cli.ctl.people import report, sources
from stepup.cli.ctl.people.sources import Row, SourceError
from stepup.cli.output import failure
from stepup.client import ActorContext, StepUpClient
from stepup.client.messages import people
from stepup.service.people.import_authenticators import MAX_IMPORTS, ImportOutcome

READY: Final = "ready"
NOT_KNOWN: Final = "not_known"
_NAMES: Final = {
    value: name.removeprefix("IMPORT_OUTCOME_").lower()
    for name, value in people.ImportOutcome.items()
}


def rows_of(files: Sequence[Path], users: Path | None, issuer: str | None) -> list[Row]:
    """Read the authenticators of files, and their users; keep those of an issuer if one is given.

    Raises:
        typer.Exit: a file cannot be read, or the files have no authenticator.
    """
    try:
        rows = [row for row in sources.read(files) if _is_of(row, issuer)]
        sources.assign_users(rows, sources.users_in(users) if users else None)
    except SourceError as error:
        raise failure(error) from error
    if not rows:
        raise failure("the files have no authenticator to import")
    return rows


def import_rows(
    client: StepUpClient, actor: ActorContext, rows: Sequence[Row], *, apply: bool, as_json: bool
) -> bool:
    """Run the dry run and, with `apply`, the import, and report both; whether all rows passed.

    Raises:
        StepUpError: a call failed.
    """
    for dry_run in (True, False) if apply else (True,):
        _send(client, actor, rows, as_json=as_json, dry_run=dry_run)
    passed = ImportOutcome.IMPORTED.value if apply else READY
    return all(row.outcome == passed for row in rows)


def _is_of(row: Row, issuer: str | None) -> bool:
    return issuer is None or row.key is None or row.issuer == issuer


def _send(
    client: StepUpClient, actor: ActorContext, rows: Sequence[Row], *, as_json: bool, dry_run: bool
) -> None:
    """Send the rows that were not refused before, 100 in a call, and write the report.

    Raises:
        StepUpError: a call failed. The report says which rows are not known.
    """
    sent = [row for row in rows if row.outcome in ("", READY)]
    for row in sent:
        row.outcome = NOT_KNOWN
    try:
        with output.tracked(range(0, len(sent), MAX_IMPORTS)) as starts:
            for start in starts:
                _send_batch(client, actor, sent[start : start + MAX_IMPORTS], dry_run=dry_run)
    finally:
        report.write(rows, as_json=as_json, dry_run=dry_run)


def _send_batch(
    client: StepUpClient, actor: ActorContext, batch: Sequence[Row], *, dry_run: bool
) -> None:
    entries = [
        people.ImportedAuthenticator(user_id=row.user_id, otpauth_uri=row.key.shortest)
        for row in batch
        if row.key is not None
    ]
    answer = client.people.import_authenticators(actor, authenticators=entries, dry_run=dry_run)
    for row, result in zip(batch, answer.results, strict=True):
        outcome = _NAMES.get(result.outcome, "refused")
        is_ready = dry_run and outcome == ImportOutcome.IMPORTED.value
        row.outcome, row.problem = READY if is_ready else outcome, result.problem
