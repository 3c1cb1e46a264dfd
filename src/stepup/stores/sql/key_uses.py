"""Which key seals which secrets."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Table, func, literal, null, select, tuple_, union, union_all

from stepup.domain.actor import TenantId, UserId
from stepup.service.ports import SealCounts
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import authenticators, pending_enrollments, reset_codes

_SEALED: tuple[tuple[str, Table, Column[Any]], ...] = (
    ("authenticators", authenticators, authenticators.c.key_id),
    ("reset_codes", reset_codes, reset_codes.c.key_id),
    ("pending_enrollments", pending_enrollments, pending_enrollments.c.key_id),
    ("reset_codes", pending_enrollments, pending_enrollments.c.reset_key_id),
)
"""The kind of a secret, its table, and the column with the id of the key that seals it."""


class SqlKeyUses(Repository):
    """Implements `KeyUses`."""

    async def counts(self) -> Mapping[str, SealCounts]:
        counted = (
            select(
                literal(kind).label("kind"), column.label("key_id"), func.count().label("number")
            )
            .where(column.is_not(null()))
            .group_by(column)
            for kind, _, column in _SEALED
        )
        found: dict[str, dict[str, int]] = {}
        for key_id, kind, number in await self._connection.fetch_all(
            select(union_all(*counted).subquery()),
            lambda row: (row.key_id, row.kind, row.number),
        ):
            numbers = found.setdefault(key_id, {})
            numbers[kind] = numbers.get(kind, 0) + number
        return {key_id: SealCounts(**numbers) for key_id, numbers in found.items()}

    async def sample(self, limit: int) -> frozenset[str]:
        some = (
            select(select(column).where(column.is_not(null())).limit(limit).subquery())
            for _, _, column in _SEALED
        )
        return frozenset(await self._connection.fetch_all(union(*some), lambda row: row[0]))

    async def users_without(
        self, key_id: str, after: tuple[TenantId, UserId] | None, limit: int
    ) -> Sequence[tuple[TenantId, UserId]]:
        users = []
        for _, table, column in _SEALED:
            user = table.c.tenant_id, table.c.user_id
            query = select(*user).where(column != key_id)  # never true for NULL
            if after is not None:
                query = query.where(tuple_(*user) > tuple_(literal(after[0]), literal(after[1])))
            # Each part is limited, so that no batch reads a whole table.
            users.append(select(query.order_by(*user).limit(limit).subquery()))
        merged = union(*users).subquery()
        return await self._connection.fetch_all(
            select(merged).order_by(merged.c.tenant_id, merged.c.user_id).limit(limit),
            lambda row: (TenantId(row.tenant_id), UserId(row.user_id)),
        )
