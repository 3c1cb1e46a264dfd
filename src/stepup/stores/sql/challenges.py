"""The challenges and their items (S19)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.challenge import (
    KEPT,
    LONGEST_OPEN,
    Approval,
    Challenge,
    ChallengeState,
    Item,
    ItemLabel,
    ItemTarget,
    Message,
)
from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.operations import OperationId
from stepup.domain.receipts import Redemption
from stepup.service.ports import Creation
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import challenge_items as items
from stepup.stores.sql.tables import challenges

_PORTION: Final = 200
"""How many challenges one statement names: few, so that other calls wait for 2 ms at most."""


class SqlChallenges(Repository):
    """Implements `Challenges`."""

    async def find(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        found = await self._fetch(select(challenges).where(_is(tenant_id, challenge_id)))
        return found[0] if found else None

    async def find_for_update(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        query = select(challenges).where(_is(tenant_id, challenge_id)).with_for_update()
        found = await self._fetch(query)
        return found[0] if found else None

    async def lock(self, tenant_id: TenantId, challenge_id: UUID) -> None:
        statement = select(challenges.c.challenge_id).where(_is(tenant_id, challenge_id))
        await self._connection.fetch_all(statement.with_for_update(), lambda _: None)

    async def is_of_other_tenant(self, tenant_id: TenantId, challenge_id: UUID) -> bool:
        query = select(challenges.c.challenge_id).where(
            challenges.c.challenge_id == challenge_id, challenges.c.tenant_id != tenant_id
        )
        return await self._connection.fetch_first(query, tuple) is not None

    async def of_user(
        self, tenant_id: TenantId, user_id: UserId, now: datetime, limit: int
    ) -> Sequence[Challenge]:
        return await self._fetch(
            select(challenges)
            .where(_of_user(tenant_id, user_id))
            .order_by(case((_pending(now), 0), else_=1), challenges.c.created_at.desc())
            .limit(limit)
        )

    async def created_since(
        self, tenant_id: TenantId, user_id: UserId, since: datetime
    ) -> Sequence[Creation]:
        return await self._connection.fetch_all(
            select(challenges.c.challenge_id, challenges.c.created_at, challenges.c.request_id)
            .where(_of_user(tenant_id, user_id), challenges.c.created_at > since)
            .order_by(challenges.c.created_at),
            lambda row: Creation(row.challenge_id, row.created_at, row.request_id),
        )

    async def count_pending(
        self,
        tenant_id: TenantId,
        now: datetime,
        *,
        user_id: UserId | None = None,
        caller: CallerId | None = None,
    ) -> int:
        conditions = [challenges.c.tenant_id == tenant_id, _pending(now)]
        if user_id is not None:
            # No older challenge is pending. The condition lets an index find the recent ones.
            recent = challenges.c.created_at > now - 2 * LONGEST_OPEN
            conditions += [challenges.c.user_id == user_id, recent]
        if caller is not None:
            conditions.append(challenges.c.caller == caller)
        return await self._count(*conditions)

    async def count_all_pending(self, now: datetime) -> int:
        return await self._count(_pending(now))

    async def add(self, challenge: Challenge) -> None:
        key = {"tenant_id": challenge.tenant_id, "challenge_id": challenge.challenge_id}
        await self._connection.write(
            insert(challenges).values(
                **key,
                user_id=challenge.user_id,
                session_hash=challenge.session_hash,
                caller=challenge.caller,
                requested_by=challenge.requested_by,
                message=challenge.message,
                created_at=challenge.created_at,
                expires_at=challenge.expires_at,
                valid_for=int(challenge.valid_for.total_seconds()),
                request_id=challenge.request_id,
                **_changing_values(challenge),
            )
        )
        await self._connection.write(
            insert(items).values(
                [
                    {
                        **key,
                        "place": place,
                        "operation": item.operation,
                        "target": item.target,
                        "label": item.label,
                        "needed": item.needed,
                    }
                    for place, item in enumerate(challenge.items)
                ]
            )
        )

    async def save(self, challenge: Challenge) -> None:
        await self._connection.write(
            update(challenges)
            .where(_is(challenge.tenant_id, challenge.challenge_id))
            .values(_changing_values(challenge))
        )

    async def use_item(
        self, tenant_id: TenantId, challenge_id: UUID, place: int, use: Redemption
    ) -> bool:
        is_approved = exists().where(
            _is(tenant_id, challenge_id), challenges.c.state == ChallengeState.APPROVED
        )
        statement = (
            update(items)
            .where(
                items.c.tenant_id == tenant_id,
                items.c.challenge_id == challenge_id,
                items.c.place == place,
                items.c.used_by.is_(None),
                is_approved,
            )
            .values(
                used_by=use.decision_id,
                used_at=use.redeemed_at,
                request_id=use.request_id,
                check_index=use.index,
            )
        )
        return await self._connection.write(statement) == 1

    async def revoke(
        self,
        tenant_id: TenantId,
        user_id: UserId,
        now: datetime,
        session_hash: SessionHash | None = None,
    ) -> Sequence[UUID]:
        # On a server whose clock is behind ours, a challenge stays open a little longer.
        since = now - CLOCK_TOLERANCE
        usable = and_(
            challenges.c.state == ChallengeState.APPROVED, challenges.c.usable_until > since
        )
        statement = (
            update(challenges)
            .where(_of_user(tenant_id, user_id), or_(_pending(since), usable))
            .values(state=ChallengeState.REVOKED, ended_at=now, forget_at=now + KEPT)
        )
        if session_hash is not None:
            statement = statement.where(challenges.c.session_hash == session_hash)
        return await self._connection.fetch_all(
            statement.returning(challenges.c.challenge_id), lambda row: row.challenge_id
        )

    async def no_longer_pending(
        self, challenge_ids: Collection[tuple[TenantId, UUID]]
    ) -> Collection[tuple[TenantId, UUID]]:
        asked, pending = list(challenge_ids), set()
        for start in range(0, len(asked), _PORTION):
            query = select(challenges.c.tenant_id, challenges.c.challenge_id).where(
                # Ids are random: no other tenant has a challenge with one of these ids.
                challenges.c.challenge_id.in_(
                    [each for _, each in asked[start : start + _PORTION]]
                ),
                challenges.c.state == ChallengeState.PENDING,
            )
            pending.update(await self._connection.fetch_all(query, _read_key))
        return set(asked) - pending

    async def expired(self, now: datetime, limit: int) -> Sequence[tuple[TenantId, UUID]]:
        return await self._connection.fetch_all(
            select(challenges.c.tenant_id, challenges.c.challenge_id)
            .where(challenges.c.state == ChallengeState.PENDING, challenges.c.expires_at <= now)
            .limit(limit),
            _read_key,
        )

    async def purge(self, now: datetime, limit: int) -> int:
        return await self._connection.delete_some(challenges, challenges.c.forget_at <= now, limit)

    async def _count(self, *conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(challenges).where(*conditions)
        [count] = await self._connection.fetch_all(query, lambda row: int(row[0]))
        return count

    async def _fetch(self, query: Select[Any]) -> list[Challenge]:
        rows = await self._connection.fetch_all(query, lambda row: row)
        keys = [(row.tenant_id, row.challenge_id) for row in rows]
        found: defaultdict[tuple[str, UUID], list[Item]] = defaultdict(list)
        if keys:
            # The condition on the tenant lets the planner search by the primary key.
            of_rows = and_(
                items.c.tenant_id.in_({tenant_id for tenant_id, _ in keys}),
                items.c.challenge_id.in_([challenge_id for _, challenge_id in keys]),
            )
            for row in await self._connection.fetch_all(
                select(items).where(of_rows).order_by(items.c.place), lambda row: row
            ):
                found[row.tenant_id, row.challenge_id].append(_read_item(row))
        return [_read(row, found[key]) for row, key in zip(rows, keys, strict=True)]


def _is(tenant_id: TenantId, challenge_id: UUID) -> ColumnElement[bool]:
    return and_(challenges.c.tenant_id == tenant_id, challenges.c.challenge_id == challenge_id)


def _of_user(tenant_id: TenantId, user_id: UserId) -> ColumnElement[bool]:
    return and_(challenges.c.tenant_id == tenant_id, challenges.c.user_id == user_id)


def _pending(now: datetime) -> ColumnElement[bool]:
    return and_(challenges.c.state == ChallengeState.PENDING, challenges.c.expires_at > now)


def _changing_values(challenge: Challenge) -> dict[str, Any]:
    approval = challenge.approval
    return {
        "state": challenge.stored_state,
        "verified_at": approval.verified_at if approval else None,
        "verified_session": approval.session_hash if approval else None,
        "enrollment_id": approval.enrollment_id if approval else None,
        "usable_until": approval.usable_until if approval else None,
        "ended_at": challenge.ended_at,
        "forget_at": challenge.forget_at,
    }


def _read_key(row: Row[Any]) -> tuple[TenantId, UUID]:
    return TenantId(row.tenant_id), row.challenge_id


def _read(row: Row[Any], of_challenge: Iterable[Item]) -> Challenge:
    approval = None
    if row.usable_until is not None:
        approval = Approval(
            row.verified_at,
            SessionHash(row.verified_session),
            row.enrollment_id,
            row.usable_until,
        )
    return Challenge(
        challenge_id=row.challenge_id,
        tenant_id=TenantId(row.tenant_id),
        user_id=UserId(row.user_id),
        session_hash=SessionHash(row.session_hash),
        caller=CallerId(row.caller),
        requested_by=row.requested_by,
        message=Message(row.message),
        items=tuple(of_challenge),
        created_at=row.created_at,
        expires_at=row.expires_at,
        valid_for=timedelta(seconds=row.valid_for),
        request_id=row.request_id,
        stored_state=ChallengeState(row.state),
        approval=approval,
        ended_at=row.ended_at,
    )


def _read_item(row: Row[Any]) -> Item:
    used = None
    if row.used_by is not None:
        used = Redemption(row.used_by, row.used_at, row.request_id, row.check_index)
    return Item(
        OperationId(row.operation), ItemTarget(row.target), ItemLabel(row.label), row.needed, used
    )
