"""The people who were asked for a code and have no authenticator."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Table, case, delete, func, insert, literal, select, true, update

from stepup.domain.actor import TenantId, UserId
from stepup.stores.sql.columns import Instant
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import asked_people, authenticators, past_authenticators


class SqlAskedPeople(Repository):
    """Implements `AskedPeople`."""

    async def note(self, tenant_id: TenantId, asked: Mapping[UserId, datetime], most: int) -> int:
        # One note at a time, so that `most` holds. No id has a line break.
        await self._connection.lock_name(f"asked\n{tenant_id}")
        asked = await self._without_ended_since(tenant_id, asked)
        known = await self._users_among(asked_people, tenant_id, asked)
        enrolled = await self._users_among(authenticators, tenant_id, asked)
        new = [user_id for user_id in asked if user_id not in known | enrolled]
        room = most - await self._count(tenant_id, most) if new else 0
        recorded, without_room = new[: max(room, 0)], new[max(room, 0) :]
        if recorded:
            rows = [
                {
                    "tenant_id": tenant_id,
                    "user_id": user_id,
                    "first_asked_at": asked[user_id],
                    "last_asked_at": asked[user_id],
                }
                for user_id in recorded
            ]
            await self._connection.write(insert(asked_people).values(rows))
        if known:
            await self._move_last(tenant_id, {user_id: asked[user_id] for user_id in known})
        return len(without_room)

    async def remove(self, tenant_id: TenantId, user_id: UserId) -> None:
        await self._connection.write(
            delete(asked_people).where(
                asked_people.c.tenant_id == tenant_id, asked_people.c.user_id == user_id
            )
        )

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._connection.delete_some(
            asked_people, asked_people.c.last_asked_at < before, limit
        )

    async def _users_among(
        self, table: Table, tenant_id: TenantId, user_ids: Collection[UserId]
    ) -> set[UserId]:
        found = await self._connection.fetch_all(
            select(table.c.user_id).where(
                table.c.tenant_id == tenant_id, table.c.user_id.in_(user_ids)
            ),
            lambda row: UserId(row.user_id),
        )
        return set(found)

    async def _without_ended_since(
        self, tenant_id: TenantId, asked: Mapping[UserId, datetime]
    ) -> Mapping[UserId, datetime]:
        past = past_authenticators.c
        ends = dict(
            await self._connection.fetch_all(
                select(past.user_id, past.ended_at).where(
                    past.tenant_id == tenant_id, past.user_id.in_(asked)
                ),
                lambda row: (UserId(row.user_id), row.ended_at),
            )
        )
        return {
            user_id: at
            for user_id, at in asked.items()
            if user_id not in ends or at >= ends[user_id]
        }

    async def _count(self, tenant_id: TenantId, most: int) -> int:
        rows = select(true()).where(asked_people.c.tenant_id == tenant_id).limit(most).subquery()
        [count] = await self._connection.fetch_all(
            select(func.count()).select_from(rows), lambda row: int(row[0])
        )
        return count

    async def _move_last(self, tenant_id: TenantId, asked: Mapping[UserId, datetime]) -> None:
        instants = {user_id: literal(at, Instant) for user_id, at in asked.items()}
        last = case(instants, value=asked_people.c.user_id)
        await self._connection.write(
            update(asked_people)
            .where(asked_people.c.tenant_id == tenant_id, asked_people.c.user_id.in_(asked))
            .where(asked_people.c.last_asked_at < last)
            .values(last_asked_at=last)
        )
