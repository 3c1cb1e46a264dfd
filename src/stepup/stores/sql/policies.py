"""The tenants' policies, and the users' own toggles."""

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, select, update

from stepup.domain.actor import TenantId, UserId
from stepup.domain.errors import ConflictError
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, Policy, checked_max_age
from stepup.domain.totp import Label
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import accounts, policies, row_of_user

_SELECTIONS = 1024
"""How many selections are remembered: most tenants select the same operations, and a worker keeps
the policies of many tenants in memory."""
_FIND = select(policies).where(policies.c.tenant_id == bindparam("tenant_id"))
_FIND_FOR_UPDATE = _FIND.with_for_update()
_TOGGLE = row_of_user(accounts)
_TOGGLE_FOR_UPDATE = _TOGGLE.with_for_update()


class SqlPolicies(Repository):
    """Implements `Policies`."""

    async def find(self, tenant_id: TenantId) -> Policy | None:
        return await self._connection.fetch_first(_FIND, _read, tenant_id=tenant_id)

    async def find_for_update(self, tenant_id: TenantId) -> Policy | None:
        return await self._connection.fetch_first(_FIND_FOR_UPDATE, _read, tenant_id=tenant_id)

    async def save(self, policy: Policy) -> None:
        values = {
            "enabled": policy.enabled,
            "max_ages": {
                operation_id: int(max_age.total_seconds())
                for operation_id, max_age in policy.max_ages.items()
            },
            "version": policy.version,
            "updated_at": policy.updated_at,
            "issuer": policy.issuer,
            "enroll_by": policy.enroll_by,
            "enabled_at": policy.enabled_at,
        }
        stored: int
        if policy.version == 1:
            stored = await self._connection.insert_if_absent(
                policies, tenant_id=policy.tenant_id, **values
            )
        else:
            stored = await self._connection.write(
                update(policies)
                .where(policies.c.tenant_id == policy.tenant_id)
                .where(policies.c.version == policy.version - 1)
                .values(values)
            )
        if not stored:
            raise ConflictError("the policy has changed")


class SqlAccounts(Repository):
    """Implements `Accounts`."""

    async def mfa_enabled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        return await self._is_on(_TOGGLE, tenant_id, user_id)

    async def mfa_enabled_for_update(self, tenant_id: TenantId, user_id: UserId) -> bool:
        return await self._is_on(_TOGGLE_FOR_UPDATE, tenant_id, user_id)

    async def set_mfa_enabled(self, tenant_id: TenantId, user_id: UserId, enabled: bool) -> None:
        await self._connection.insert_or_replace(
            accounts, tenant_id=tenant_id, user_id=user_id, mfa_enabled=enabled
        )

    async def remove(self, tenant_id: TenantId, user_id: UserId) -> None:
        await self._connection.write(
            delete(accounts).where(accounts.c.tenant_id == tenant_id, accounts.c.user_id == user_id)
        )

    async def _is_on(self, toggle: Select[Any], tenant_id: TenantId, user_id: UserId) -> bool:
        is_on = await self._connection.fetch_first(
            toggle, lambda row: bool(row.mfa_enabled), tenant_id=tenant_id, user_id=user_id
        )
        return is_on is True


@lru_cache(_SELECTIONS)
def _read_max_ages(seconds: tuple[tuple[str, int], ...]) -> Mapping[OperationId, timedelta]:
    return MappingProxyType(
        {
            OperationId(operation_id): (
                checked_max_age(timedelta(seconds=max_age)) if max_age else EVERY_TIME
            )
            for operation_id, max_age in seconds
        }
    )


def _read(row: Row[Any]) -> Policy:
    return Policy(
        tenant_id=TenantId(row.tenant_id),
        enabled=row.enabled,
        max_ages=_read_max_ages(tuple(row.max_ages.items())),
        version=row.version,
        updated_at=row.updated_at,
        issuer=Label(row.issuer) if row.issuer is not None else None,
        enroll_by=row.enroll_by,
        enabled_at=row.enabled_at,
    )
