"""`stepup ctl people`: import the authenticators that people have."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stepup.cli.ctl.connection import (
    Address,
    Authorities,
    Certificate,
    Insecure,
    Key,
    OperatorName,
    Reason,
    Tenant,
    TokenFile,
    client_of,
    operator_in,
)
from stepup.cli.ctl.people import report, sources
from stepup.cli.ctl.people.sources import Row, SourceError
from stepup.cli.options import failure
from stepup.client import ActorContext, StepUpClient, StepUpError
from stepup.client.messages import people
from stepup.service.people.import_authenticators import MAX_IMPORTS, ImportOutcome

app = typer.Typer(help="The people of a business, and their authenticators.", no_args_is_help=True)
READY = "ready"
NOT_KNOWN = "not_known"
_NAMES = {
    value: name.removeprefix("IMPORT_OUTCOME_").lower()
    for name, value in people.ImportOutcome.items()
}


@app.callback()
def _group() -> None:
    """Keep `import` a command of its own while the group has no other."""


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Text with a key URI or an export of Google Authenticator in each line, - for"
            " standard input; or a PNG or JPEG picture of the QR codes.",
        ),
    ],
    *,
    tenant: Tenant,
    operator: OperatorName,
    reason: Reason,
    address: Address = "127.0.0.1:50051",
    tls_ca: Authorities = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    insecure: Insecure = False,
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
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines.")] = False,
) -> None:
    """Import the authenticators that people have, so that nobody has to enrol again.

    A dry run always comes first: the server checks everything, and registers nothing. With --apply
    the server then registers the authenticators that passed.

    The exit code is 0 if all passed, 1 if some were refused, 2 if the command failed. After a
    failure run the command again: authenticators that were imported are refused as
    has_authenticator.
    """
    with client_of(address, tls_ca, certificate, key, token_file, insecure=insecure) as client:
        try:
            rows = [row for row in sources.read(files) if _is_of(row, issuer)]
            sources.assign_users(rows, sources.users_in(users) if users else None)
        except SourceError as error:
            raise failure(error) from error
        if not rows:
            raise failure("the files have no authenticator to import")
        actor = operator_in(tenant, operator, reason)
        for dry_run in (True, False) if apply else (True,):
            _send(client, actor, rows, as_json=as_json, dry_run=dry_run)
    passed = ImportOutcome.IMPORTED.value if apply else READY
    if any(row.outcome != passed for row in rows):
        raise typer.Exit(1)


def _is_of(row: Row, issuer: str | None) -> bool:
    return issuer is None or row.key is None or row.issuer == issuer


def _send(
    client: StepUpClient, actor: ActorContext, rows: Sequence[Row], *, as_json: bool, dry_run: bool
) -> None:
    """Send the rows that were not refused before, 100 in a call, and write the report.

    Raises:
        typer.Exit: a call failed. The report says which rows are not known.
    """
    sent = [row for row in rows if row.outcome in ("", READY)]
    for row in sent:
        row.outcome = NOT_KNOWN
    try:
        for start in range(0, len(sent), MAX_IMPORTS):
            _send_batch(client, actor, sent[start : start + MAX_IMPORTS], dry_run=dry_run)
    except StepUpError as error:
        report.write(rows, as_json=as_json, dry_run=dry_run)
        raise failure(error) from error
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
