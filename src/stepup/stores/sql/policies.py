"""The tenants' policies, and the users' own toggles."""

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from stepup.domain.actor import TenantId, UserId
from stepup.domain.errors import ConflictError
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy, checked_max_age
from stepup.domain.totp import Label
from stepup.stores.sql.connection import Connection, Query
from stepup.stores.sql.tables import accounts, policies

_SELECTIONS = 1024
"""How many selections are remembered: most tenants select the same operations, and a worker keeps
the policies of many tenants in memory."""
_POLICY = Query(select(policies).where(policies.c.tenant_id == bindparam("tenant_id")))
_ACCOUNT = Query.of_user(accounts)


class SqlPolicies:
    """Implements `Policies`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, tenant_id: TenantId) -> Policy | None:
        """The tenant's policy; locked in a transaction."""
        return await self._connection.first(_POLICY, _read, tenant_id=tenant_id)

    async def save(self, policy: Policy) -> None:
        """Store a policy of version N in place of version N - 1; none is stored for version 0.

        Raises:
            ConflictError: the stored version is another one.
        """
        values = {
            "enabled": policy.enabled,
            "max_ages": {
                operation_id: int(max_age.total_seconds())
                for operation_id, max_age in policy.max_ages.items()
            },
            "version": policy.version,
            "updated_at": policy.updated_at,
            "issuer": policy.issuer,
        }
        if policy.version == 1:
            first = self._connection.insert(policies).values(tenant_id=policy.tenant_id, **values)
            stored = await self._connection.write(first.on_conflict_do_nothing())
        else:
            stored = await self._connection.write(
                update(policies)
                .where(policies.c.tenant_id == policy.tenant_id)
                .where(policies.c.version == policy.version - 1)
                .values(values)
            )
        if not stored:
            raise ConflictError("the policy has changed")


class SqlAccounts:
    """Implements `Accounts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def mfa_enabled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """The toggle; off when it was never turned."""
        toggle = await self._connection.first(
            _ACCOUNT,
            lambda row: bool(row.mfa_enabled),
            tenant_id=tenant_id,
            user_id=user_id,
        )
        return toggle is True

    async def set_mfa_enabled(self, tenant_id: TenantId, user_id: UserId, enabled: bool) -> None:
        """Turn the toggle."""
        statement = self._connection.insert(accounts).values(
            tenant_id=tenant_id, user_id=user_id, mfa_enabled=enabled
        )
        await self._connection.write(
            statement.on_conflict_do_update(
                index_elements=(accounts.c.tenant_id, accounts.c.user_id),
                set_={"mfa_enabled": enabled},
            )
        )


@lru_cache(_SELECTIONS)
def _read_max_ages(seconds: tuple[tuple[str, int], ...]) -> Mapping[OperationId, timedelta]:
    return MappingProxyType(
        {
            OperationId(operation_id): checked_max_age(timedelta(seconds=max_age))
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
    )
