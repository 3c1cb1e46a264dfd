"""`stepup break-glass`: access for a business whose only administrator lost the authenticator.

It runs on a server's host, with the server's settings, database and key ring; never over the API.
"""

import json
from collections.abc import Callable
from typing import Annotated, TypeVar

import structlog
import typer

from stepup.cli.options import ConfigFile, DataDir, run, settings_of
from stepup.cli.output import failure
from stepup.domain.actor import TenantId, UserId, folded
from stepup.domain.errors import InvalidValueError
from stepup.domain.text import StatedReason
from stepup.service.calls.context import HostContext
from stepup.service.people.break_glass import BREAK_GLASS, BreakGlass
from stepup.service.ports import SealBrokenError
from stepup.settings import Settings
from stepup.system.clock import SystemClock
from stepup.system.host import host_name, os_user
from stepup.telemetry.logs import configure_logging
from stepup.wiring.database import open_database
from stepup.wiring.keys import key_setting_of, key_source_of, read_keys

app = typer.Typer(
    help="On a server's host: let the last administrator enrol again, without the API.",
    no_args_is_help=True,
)
_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@app.callback()
def _take_subcommands() -> None:
    """Keep the name of the only subcommand: without a callback typer drops it."""


@app.command()
def reset_enrollment(
    tenant: Annotated[str, typer.Option(help="The id of the business.")],
    user: Annotated[str, typer.Option(help="The id of the person.")],
    reason: Annotated[
        str, typer.Option(help="The reason, for the audit event: 1 to 512 characters.")
    ],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Remove a person's authenticator, with its elevations, challenges and reset code.

    The audit event names the user and the host of this machine.

    The exit code is 1 if the person has no authenticator, 2 if the command failed: run it again.
    """
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    configure_logging(settings.log.level, settings.log.format)
    fold = folded if settings.identity.fold_case else str
    tenant_id = _checked("--tenant", lambda: TenantId(fold(tenant)))
    user_id = _checked("--user", lambda: UserId(fold(user)))
    stated = _checked("--reason", lambda: StatedReason(reason))
    context = HostContext(BREAK_GLASS, tenant_id, SystemClock().now(), os_user(), host_name())
    person = f"the user {json.dumps(user_id)} of the tenant {json.dumps(tenant_id)}"
    if not run(_reset(settings, context, user_id, stated)):
        typer.echo(
            f"stepup: {person} has no authenticator: nothing was changed. Check both ids; a person"
            " without an authenticator enrols at the next sign-in",
            err=True,
        )
        raise typer.Exit(1)
    _log.warning(
        "break_glass_used",
        tenant=tenant_id,
        user=user_id,
        os_user=context.os_user,
        host=context.host,
    )
    typer.echo(
        f"{person} has no authenticator any more: its reset code is void, and every server ends its"
        " elevations and challenges within two seconds\n"
        f"the audit event names {json.dumps(context.os_user)} on {json.dumps(context.host)}\n"
        "next: the person signs in again, enrols a new authenticator and keeps the new reset code"
    )


async def _reset(
    settings: Settings, context: HostContext, user_id: UserId, reason: StatedReason
) -> bool:
    keys = read_keys(settings)
    async with open_database(settings) as database:
        try:
            return await BreakGlass(database, keys).reset_enrollment(context, user_id, reason)
        except SealBrokenError as error:
            raise failure(
                f"{key_setting_of(settings)}: {key_source_of(settings)}: this key ring does not"
                f" open the user's secret: {error}. Use the key ring of the servers; nothing was"
                " changed"
            ) from error


def _checked(option: str, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except InvalidValueError as error:
        raise failure(f"{option}: {error}") from error
