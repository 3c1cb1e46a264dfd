"""`stepup audit`: verify the chains, sign their heads, export and prune the events."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from stepup.cli.audit.prune import prune
from stepup.cli.audit.signatures import signatures_of
from stepup.cli.audit.texts import Tenant, describe, tenant_id_of
from stepup.cli.ocsf.events import ocsf
from stepup.cli.options import ConfigFile, DataDir, problems_reported, run, settings_of
from stepup.cli.output import ExportFormat, failure
from stepup.domain.actor import TenantId
from stepup.domain.audit import ChainedEvent, Json, canonical_json, described
from stepup.domain.chain import Head
from stepup.domain.errors import InvalidValueError, StoreUnavailableError
from stepup.keys import public
from stepup.keys.ring import KeyRingError
from stepup.service.audit.events import export as export_events
from stepup.service.audit.heads import ExportHeads, HeadDamagedError, SignedHeads
from stepup.service.audit.verification import AuditVerification
from stepup.service.ports import EventQuery, HeadSignatures
from stepup.settings import Settings
from stepup.system import private_files
from stepup.system.clock import SystemClock
from stepup.system.outlet import ends_within_line
from stepup.wiring.database import open_database
from stepup.wiring.keys import load_keys

app = typer.Typer(help="Verify, sign, export and prune the audit events.", no_args_is_help=True)
app.command()(prune)


@app.command()
def verify(
    tenant: Tenant = None,
    head: Annotated[
        Path | None, typer.Option(help="A file of `audit head`: the chains must contain its heads.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option(
            help="The public key of all signatures, of the file and of checkpoints. Default: from"
            " the key ring."
        ),
    ] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Recompute every hash chain, and name the tenant and event of each damage.

    The exit code is 0 if everything is intact, 1 if there is damage, 2 if the check failed.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    tenant_id = tenant_id_of(tenant)
    signatures = signatures_of(settings, public_key)
    exported = _exported(head, signatures, tenant_id) if head is not None else {}
    if run(_verify(settings, signatures, tenant_id, exported)):
        raise typer.Exit(1)


@app.command()
def head(
    output: Annotated[Path, typer.Option(help="The file to write; an earlier file is replaced.")],
    tenant: Tenant = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Sign the heads of the chains, so that `audit verify` finds events that are removed later.

    Keep the file where users of this machine and of the database cannot change it. The exit code is
    1 if a head is not the end of its chain: then nothing is signed.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    text = run(_signed_heads(settings, tenant_id_of(tenant)))
    try:
        try:
            private_files.create(output, text.encode())
        except FileExistsError:
            private_files.replace(output, text.encode())
    except OSError as error:
        raise failure(f"{output}: cannot be written: {error.strerror}") from error


@app.command()
def public_key(
    key_id: Annotated[
        str | None, typer.Option(help="The id of a key of the ring. Default: the primary key.")
    ] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Show the public key that verifies signatures of `audit head`, in PEM, for auditors."""
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    typer.echo(public.to_pem(_public_key(settings, key_id)), nl=False)


@app.command()
def export(
    tenant: Annotated[str, typer.Option(help="The tenant whose events are written.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="How each line is written.")],
    after: Annotated[int, typer.Option(min=0, help="Skip events up to this sequence number.")] = 0,
    output: Annotated[Path, typer.Option(help="A file; --after appends to it.")] = Path("-"),
    *,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Write the events of a tenant in their order, up to the newest.

    The exit code is 2 if events cannot be read or written, or the tenant has none.

    To resume, give the sequence number of the last line (`sequence`, `metadata.sequence`) as
    --after.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    tenant_id = TenantId(tenant_id_of(tenant) or "")
    write = ocsf if format_ is ExportFormat.OCSF else _plain
    if not run(_may_have_events(settings, tenant_id)):
        raise _without_events(tenant_id)
    with _opened(output, after) as file:
        run(_export(settings, tenant_id, after, write, file))


async def _verify(
    settings: Settings,
    signatures: HeadSignatures,
    tenant_id: TenantId | None,
    exported: Mapping[str, Head],
) -> int:
    found = 0
    async with open_database(settings) as database:
        verification = AuditVerification(database, signatures, exported)
        damages = verification.of(tenant_id) if tenant_id else verification.of_all()
        try:
            async for damage in damages:
                found += 1
                typer.echo(describe(damage))
        except StoreUnavailableError as error:
            if not found:
                raise
            typer.echo(f"stepup: the other events were not checked: {error.fault}", err=True)
            return found
    if tenant_id and not verification.events and not found:
        raise _without_events(tenant_id)
    outcome = f"problems: {found}" if found else "intact"
    typer.echo(f"tenants: {verification.tenants}, events: {verification.events}, {outcome}")
    return found


async def _signed_heads(settings: Settings, tenant_id: TenantId | None) -> str:
    async with open_database(settings) as database:
        try:
            return await ExportHeads(database, load_keys(settings))(SystemClock().now(), tenant_id)
        except HeadDamagedError as error:
            typer.echo(describe(error.damage))
            raise typer.Exit(1) from error


async def _may_have_events(settings: Settings, tenant_id: TenantId) -> bool:
    """Whether the tenant has an event. True if that cannot be read: the export reports why."""
    async with open_database(settings) as database:
        try:
            async with database.snapshot() as records:
                return bool(await records.audit.list(EventQuery(tenant_id), 1))
        except StoreUnavailableError:
            return True


def _without_events(tenant_id: TenantId) -> typer.Exit:
    return failure(f"--tenant: {json.dumps(tenant_id)} has no events")


async def _export(
    settings: Settings,
    tenant_id: TenantId,
    after: int,
    write: Callable[[ChainedEvent], Mapping[str, Json]],
    file: BinaryIO,
) -> None:
    last = after
    async with open_database(settings) as database:
        events = export_events(database, tenant_id, after)
        try:
            async for chained in events:
                file.write(f"{canonical_json(write(chained))}\n".encode())
                last = chained.sequence
            file.flush()
        except StoreUnavailableError as error:
            raise failure(f"{error.fault}; the last event written is {last}") from error


def _exported(
    head: Path, signatures: HeadSignatures, tenant_id: TenantId | None
) -> Mapping[str, Head]:
    """Read the heads of a file, and demand a good signature."""
    try:
        signed = SignedHeads.parse(head.read_bytes())
    except InvalidValueError as error:
        raise failure(f"{head}: {error}") from error
    except OSError as error:
        raise failure(f"{head}: cannot be read: {error.strerror}") from error
    with problems_reported():
        problem = signatures.signature_problem(signed.key_id, signed.message, signed.signature)
    if problem is not None:
        raise failure(f"{head}: {problem}")
    if tenant_id is None:
        return signed.heads
    if tenant_id not in signed.heads:
        raise failure(f"{head}: the file has no head of the tenant {json.dumps(tenant_id)}")
    return {tenant_id: signed.heads[tenant_id]}


def _public_key(settings: Settings, key_id: str | None) -> bytes:
    with problems_reported():
        keys = load_keys(settings)
    try:
        return keys.head_public_key(key_id or keys.primary)
    except KeyRingError as error:
        raise failure(f"{key_id}: {error}") from error


@contextmanager
def _opened(output: Path, after: int) -> Iterator[BinaryIO]:
    try:
        if output == Path("-"):
            yield typer.get_binary_stream("stdout")
            return
        with output.open("ab" if after else "xb") as file:
            if output.is_file() and ends_within_line(output):
                raise failure(f"{output}: the last line is incomplete: remove it first")
            yield file
    except FileExistsError as error:
        raise failure(f"{output}: the file exists already: give --after to append to it") from error
    except OSError as error:
        raise failure(f"{output}: cannot be written: {error.strerror}") from error


def _plain(chained: ChainedEvent) -> Mapping[str, Json]:
    """The event as it is hashed, and its hashes."""
    hashes = {"previous_hash": chained.previous_hash.hex(), "hash": chained.hash.hex()}
    return {**described(chained.event, chained.sequence), **hashes}
