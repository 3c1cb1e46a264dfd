"""The people of a tenant: enrolled, asked and past ones, and the devices of their events."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    union,
    update,
)

from stepup.domain.actor import TenantId, UserId
from stepup.domain.person import (
    EndedBy,
    PastAuthenticator,
    PeopleCounts,
    Person,
    PersonState,
)
from stepup.domain.throttle import FAILURES_UNTIL_SUSPENSION
from stepup.service.ports import KnownTenant, PeopleQuery
from stepup.stores.sql.authenticators import read_authenticator
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import (
    accounts,
    asked_people,
    audit_heads,
    authenticators,
    event_clients,
    past_authenticators,
    pending_enrollments,
    policies,
    reset_codes,
    row_of_user,
)


def _has_row(table: Table, of: Table) -> ColumnElement[bool]:
    return exists().where(table.c.tenant_id == of.c.tenant_id, table.c.user_id == of.c.user_id)


_NEVER_ENROLLED = not_(
    or_(*(_has_row(table, asked_people) for table in (accounts, past_authenticators)))
)
_NOT_ENROLLED = not_(_has_row(authenticators, asked_people))
_EVER_ENROLLED = select(
    or_(
        *(
            exists().where(
                table.c.tenant_id == bindparam("tenant_id"),
                table.c.user_id == bindparam("user_id"),
            )
            for table in (accounts, authenticators, past_authenticators)
        )
    )
)
_PAST = row_of_user(past_authenticators)
_LAST_BREAK_GLASS = select(func.max(past_authenticators.c.ended_at)).where(
    past_authenticators.c.ended_by == EndedBy.BREAK_GLASS.value
)


class SqlPeople(Repository):
    """Implements `People`."""

    async def find(self, tenant_id: TenantId, user_id: UserId, now: datetime) -> Person | None:
        [person] = await self._read(tenant_id, [user_id], now)
        is_known = (
            person.authenticator is not None
            or person.pending_until is not None
            or person.last_asked_at is not None
            or await self._connection.fetch_first(
                row_of_user(accounts), lambda _: True, tenant_id=tenant_id, user_id=user_id
            )
        )
        return person if is_known else None

    async def list(self, query: PeopleQuery, limit: int) -> Sequence[Person]:
        sources = [
            select(table.c.user_id)
            .where(table.c.tenant_id == query.tenant_id, condition)
            .where(table.c.user_id > query.after if query.after is not None else literal(True))
            .distinct()
            .order_by(table.c.user_id)
            .limit(limit)
            .subquery()
            for table, condition in _sources(query)
        ]
        first = union(*(select(source.c.user_id) for source in sources)).subquery()
        found = await self._connection.fetch_all(
            select(first.c.user_id).order_by(first.c.user_id).limit(limit),
            lambda row: UserId(row.user_id),
        )
        return await self._read(query.tenant_id, found, query.now) if found else []

    async def count(self, query: PeopleQuery) -> PeopleCounts:
        async def count(state: PersonState) -> int:
            [(table, condition)] = _sources(query, state)
            people = func.count(table.c.user_id.distinct())
            statement = select(people).where(table.c.tenant_id == query.tenant_id, condition)
            return await self._connection.fetch_first(statement, lambda row: int(row[0])) or 0

        return PeopleCounts(
            **{
                state.value: await count(state)
                for state in PersonState
                if state is not PersonState.IN_GRACE or query.in_grace
            }
        )

    async def ever_enrolled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        found = await self._connection.fetch_first(
            _EVER_ENROLLED, lambda row: bool(row[0]), tenant_id=tenant_id, user_id=user_id
        )
        return found is not False

    async def tenants(self, after: TenantId | None, limit: int) -> Sequence[KnownTenant]:
        statement = (
            select(audit_heads.c.tenant_id, policies.c.enabled)
            .join_from(
                audit_heads,
                policies,
                policies.c.tenant_id == audit_heads.c.tenant_id,
                isouter=True,
            )
            .order_by(audit_heads.c.tenant_id)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(audit_heads.c.tenant_id > after)
        return await self._connection.fetch_all(
            statement, lambda row: KnownTenant(TenantId(row.tenant_id), bool(row.enabled))
        )

    async def _read(
        self, tenant_id: TenantId, user_ids: Sequence[UserId], now: datetime
    ) -> Sequence[Person]:
        """Read people by their ids, in the order of the ids."""

        async def rows(statement: Select[Any], table: Table) -> dict[str, Row[Any]]:
            found = await self._connection.fetch_all(
                statement.where(table.c.tenant_id == tenant_id, table.c.user_id.in_(user_ids)),
                lambda row: row,
            )
            return {row.user_id: row for row in found}

        enrolled = await rows(select(authenticators), authenticators)
        with_codes = await rows(select(reset_codes.c.user_id), reset_codes)
        toggles = await rows(select(accounts), accounts)
        asked = await rows(select(asked_people), asked_people)
        past = await rows(select(past_authenticators.c.user_id), past_authenticators)
        wizards = await rows(
            select(
                pending_enrollments.c.user_id,
                func.max(pending_enrollments.c.expires_at).label("until"),
            )
            .where(pending_enrollments.c.expires_at > now)
            .group_by(pending_enrollments.c.user_id),
            pending_enrollments,
        )
        return [
            Person(
                user_id,
                authenticator=_of(enrolled.get(user_id), read_authenticator),
                has_reset_code=user_id in with_codes,
                account_mfa_enabled=_of(toggles.get(user_id), lambda row: row.mfa_enabled) or False,
                pending_until=_of(wizards.get(user_id), lambda row: row.until),
                first_asked_at=_of(asked.get(user_id), lambda row: row.first_asked_at),
                last_asked_at=_of(asked.get(user_id), lambda row: row.last_asked_at),
                ever_enrolled=user_id in enrolled or user_id in toggles or user_id in past,
            )
            for user_id in user_ids
        ]


class SqlAskedPeople(Repository):
    """Implements `AskedPeople`."""

    async def note(
        self, tenant_id: TenantId, asked: Sequence[tuple[UserId, datetime]], most: int
    ) -> int:
        if not asked:
            return 0
        # One note at a time: so `most` holds.
        await self._connection.lock_name(f"asked/{tenant_id}")
        of_tenant = asked_people.c.tenant_id == tenant_id
        without_room, room = 0, None
        for user_id, at in asked:
            is_theirs = and_(of_tenant, asked_people.c.user_id == user_id)
            later = update(asked_people).where(is_theirs).values(last_asked_at=at)
            if await self._connection.write(later):
                continue
            if room is None:
                rows = select(literal(1)).where(of_tenant).limit(most).subquery()
                counted = await self._connection.fetch_first(
                    select(func.count()).select_from(rows), lambda row: int(row[0])
                )
                room = most - (counted or 0)
            if room <= 0:
                without_room += 1
                continue
            enrolled = exists().where(
                authenticators.c.tenant_id == tenant_id, authenticators.c.user_id == user_id
            )
            values = select(literal(tenant_id), literal(user_id), _instant(at), _instant(at))
            room -= await self._connection.write(
                insert(asked_people).from_select(
                    ["tenant_id", "user_id", "first_asked_at", "last_asked_at"],
                    values.where(~enrolled),
                )
            )
        return without_room

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


class SqlPastAuthenticators(Repository):
    """Implements `PastAuthenticators`."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> PastAuthenticator | None:
        return await self._connection.fetch_first(
            _PAST,
            lambda row: PastAuthenticator(row.ended_at, EndedBy(row.ended_by)),
            tenant_id=tenant_id,
            user_id=user_id,
        )

    async def remember(self, tenant_id: TenantId, user_id: UserId, past: PastAuthenticator) -> None:
        earlier = await self.find(tenant_id, user_id)
        forbids_import = earlier is not None and earlier.forbids_import(past.ended_at)
        if forbids_import and not past.ended_by.forbids_import:
            return
        await self._connection.insert_or_replace(
            past_authenticators,
            tenant_id=tenant_id,
            user_id=user_id,
            ended_at=past.ended_at,
            ended_by=past.ended_by.value,
        )

    async def last_break_glass(self) -> datetime | None:
        return await self._connection.fetch_first(_LAST_BREAK_GLASS, lambda row: row[0])

    async def purge(self, now: datetime, before: datetime, limit: int) -> int:
        in_grace = exists().where(
            policies.c.tenant_id == past_authenticators.c.tenant_id, policies.c.enroll_by > now
        )
        is_over = and_(past_authenticators.c.ended_at < before, ~in_grace)
        return await self._connection.delete_some(past_authenticators, is_over, limit)


class SqlEventClients(Repository):
    """Implements `EventClients`."""

    async def forget(self, tenant_id: TenantId, user_id: UserId) -> int:
        return await self._connection.write(
            delete(event_clients).where(
                event_clients.c.tenant_id == tenant_id, event_clients.c.user_id == user_id
            )
        )

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._connection.delete_some(
            event_clients, event_clients.c.occurred_at < before, limit
        )


def _sources(
    query: PeopleQuery, state: PersonState | None = None
) -> list[tuple[Table, ColumnElement[bool]]]:
    """The tables of which a list takes its people, each with a condition."""
    locked = authenticators.c.locked_until > query.now
    pending = pending_enrollments.c.expires_at > query.now
    match state or query.state:
        case None:
            return [
                (authenticators, literal(True)),
                (pending_enrollments, pending),
                (asked_people, literal(True)),
            ]
        case PersonState.ENROLLED:
            return [(authenticators, literal(True))]
        case PersonState.PENDING:
            return [(pending_enrollments, pending)]
        case PersonState.NOT_ENROLLED:
            return [(asked_people, _NOT_ENROLLED)]
        case PersonState.IN_GRACE:
            in_grace = literal(query.in_grace)
            return [(asked_people, and_(in_grace, _NOT_ENROLLED, _NEVER_ENROLLED))]
        case PersonState.LOCKED:
            return [(authenticators, locked)]
        case PersonState.SUSPENDED:
            return [(authenticators, authenticators.c.in_a_row >= FAILURES_UNTIL_SUSPENSION)]


def _of(row: Row[Any] | None, read: Callable[[Row[Any]], Any]) -> Any:
    return None if row is None else read(row)


def _instant(at: datetime) -> ColumnElement[datetime]:
    return literal(at, asked_people.c.last_asked_at.type)
