"""`stepup audit prune`: delete the oldest audit events."""

import json
from datetime import datetime
from typing import Annotated

import typer

from stepup.cli.audit.texts import Tenant, describe, tenant_id_of
from stepup.cli.options import ConfigFile, DataDir, run, settings_of
from stepup.cli.output import failure
from stepup.cli.times import FORMS, instant_option
from stepup.domain.actor import TenantId
from stepup.domain.chain import Damage
from stepup.domain.errors import InvalidValueError, StoreUnavailableError
from stepup.service.audit.heads import all_tenants
from stepup.service.audit.prune import PRUNE, ChainDamagedError, PruneAudit
from stepup.service.calls.context import HostContext
from stepup.settings import Settings
from stepup.system.clock import SystemClock
from stepup.system.host import host_name, os_user
from stepup.wiring.database import open_database
from stepup.wiring.keys import read_keys


def prune(
    before: Annotated[str, typer.Option(help=f"Events before this instant, in UTC: {FORMS}.")],
    tenant: Tenant = None,
    *,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete. Without this option, only count.")
    ] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Delete the oldest audit events, with the devices of their people.

    Without --delete the command changes nothing, and shows how many events it would delete. Each
    chain keeps its last event, and a signed checkpoint, after which `audit verify` begins. Events
    that are damaged stay.

    The command needs the database role of `stepup migrate`: a server's role cannot delete events.

    The exit code is 0 if everything was deleted or counted, 1 if a chain is damaged, 2 if the
    command failed; what it deleted before has its checkpoint.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    instant = instant_option("--before", before)
    assert instant is not None  # noqa: S101  # for mypy: it is required
    if instant > SystemClock().now():
        raise failure("--before: must not be in the future")
    if run(_prune(settings, tenant_id_of(tenant), instant, delete=delete)):
        raise typer.Exit(1)


async def _prune(
    settings: Settings, tenant_id: TenantId | None, before: datetime, *, delete: bool
) -> int:
    """Prune one tenant or all; return how many chains are damaged."""
    keys = read_keys(settings)
    events = damaged = 0
    done = "deleted" if delete else "to delete"
    async with open_database(settings) as database:
        work = PruneAudit(database, keys)
        async with database.snapshot() as records:
            tenants = [tenant_id] if tenant_id else await all_tenants(records.audit)
        for name in tenants:
            try:
                found = await _prune_tenant(work, name, before, delete=delete)
            except ChainDamagedError as error:
                damaged += 1
                typer.echo(describe(error.damage))
                continue
            if found:
                typer.echo(f"tenant {json.dumps(name)}: {found} events {done}")
            events += found
    typer.echo(
        f"tenants: {len(tenants)}, events {done}: {events}"
        + ("" if delete else " (nothing was deleted: give --delete)")
    )
    return damaged


async def _prune_tenant(work: PruneAudit, tenant: str, before: datetime, *, delete: bool) -> int:
    """Prune one tenant; return how many events were deleted, or would be."""
    try:
        tenant_id = TenantId(tenant)
    except InvalidValueError as error:
        raise ChainDamagedError(Damage(tenant, None, "the row belongs to no tenant")) from error
    if not delete:
        return await work.count(tenant_id, before)
    context = HostContext(PRUNE, tenant_id, SystemClock().now(), os_user(), host_name())
    try:
        return await work(context, before)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{error.fault}. Does the database role own the tables? A server's role cannot delete"
            " audit events: run the command with the role of `stepup migrate`"
        ) from error
