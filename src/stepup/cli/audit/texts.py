"""The option --tenant of the commands of `stepup audit`, and their line about a damage."""

import json
from typing import Annotated

import typer

from stepup.cli.output import failure
from stepup.domain.actor import TenantId
from stepup.domain.chain import Damage
from stepup.domain.errors import InvalidValueError

Tenant = Annotated[str | None, typer.Option(help="One tenant instead of all.")]


def tenant_id_of(tenant: str | None) -> TenantId | None:
    """Read the option --tenant.

    Raises:
        typer.Exit: it is not the id of a tenant.
    """
    try:
        return None if tenant is None else TenantId(tenant)
    except InvalidValueError as error:
        raise failure(f"--tenant: {error}") from error


def describe(damage: Damage) -> str:
    """One line that says where a chain is damaged, and how."""
    where = "a row" if damage.sequence is None else f"event {damage.sequence}"
    return f"tenant {json.dumps(damage.tenant)}, {where}: {damage.problem}"
