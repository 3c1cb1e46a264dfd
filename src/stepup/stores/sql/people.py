"""The people of a tenant, the ends of their authenticators, and the devices of their events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    ScalarSelect,
    Select,
    String,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    union,
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


def _has_row(
    table: Table, tenant_id: ColumnElement[str], user_id: ColumnElement[str]
) -> ColumnElement[bool]:
    return exists().where(table.c.tenant_id == tenant_id, table.c.user_id == user_id)


_OF_ENROLLED = accounts, authenticators, past_authenticators
"""A user with a row in one of these tables has or ever had an authenticator."""
_ASKED = asked_people.c.tenant_id, asked_people.c.user_id
_NOT_ENROLLED = not_(_has_row(authenticators, *_ASKED))
# Not the negation of `_EVER_ENROLLED`: for that, PostgreSQL reads the rows of all tenants.
_NEVER_ENROLLED = and_(*(not_(_has_row(table, *_ASKED)) for table in _OF_ENROLLED))
_EVER_ENROLLED = select(
    or_(*(_has_row(table, bindparam("tenant_id"), bindparam("user_id")) for table in _OF_ENROLLED))
)
_PAST = row_of_user(past_authenticators)
_LAST_BREAK_GLASS = select(func.max(past_authenticators.c.ended_at)).where(
    past_authenticators.c.ended_by == EndedBy.BREAK_GLASS.value
)


class SqlPeople(Repository):
    """Implements `People`."""

    async def find(self, tenant_id: TenantId, user_id: UserId, now: datetime) -> Person | None:
        users = select(literal(user_id, String).label("user_id"))
        return await self._connection.fetch_first(_people(tenant_id, users, now), _read_if_known)

    async def list(self, query: PeopleQuery, limit: int) -> Sequence[Person]:
        def first_of(table: Table, condition: ColumnElement[bool]) -> Select[tuple[str]]:
            users = (
                select(table.c.user_id)
                .where(table.c.tenant_id == query.tenant_id, condition)
                .distinct()
                .order_by(table.c.user_id)
                .limit(limit)
            )
            if query.after is not None:
                users = users.where(table.c.user_id > query.after)
            return select(users.subquery().c.user_id)

        # Each part is limited, so that no page reads a whole table.
        merged = union(*(first_of(*source) for source in _sources(query))).subquery()
        users = select(merged.c.user_id).order_by(merged.c.user_id).limit(limit)
        return await self._connection.fetch_all(
            _people(query.tenant_id, users, query.now), _read_person
        )

    async def count(self, query: PeopleQuery) -> PeopleCounts:
        def count(state: PersonState) -> ScalarSelect[int]:
            [(table, condition)] = _sources(replace(query, state=state))
            people = select(func.count(table.c.user_id.distinct()))
            return people.where(table.c.tenant_id == query.tenant_id, condition).scalar_subquery()

        states = PersonState if query.state is None else [query.state]
        [counts] = await self._connection.fetch_all(
            select(*(count(state).label(state.value) for state in states)),
            lambda row: PeopleCounts(**row._mapping),  # noqa: SLF001  # a public name of SQLAlchemy
        )
        return counts

    async def ever_enrolled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        [found] = await self._connection.fetch_all(
            _EVER_ENROLLED, lambda row: bool(row[0]), tenant_id=tenant_id, user_id=user_id
        )
        return found

    async def tenants(self, after: TenantId | None, limit: int) -> Sequence[KnownTenant]:
        has_policy = policies.c.tenant_id == audit_heads.c.tenant_id
        statement = (
            select(audit_heads.c.tenant_id, policies.c.enabled)
            .join_from(audit_heads, policies, has_policy, isouter=True)
            .order_by(audit_heads.c.tenant_id)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(audit_heads.c.tenant_id > after)
        return await self._connection.fetch_all(
            statement, lambda row: KnownTenant(TenantId(row.tenant_id), bool(row.enabled))
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


def _sources(query: PeopleQuery) -> list[tuple[Table, ColumnElement[bool]]]:
    """The tables of which a list takes its people, each with a condition.

    There is one for each state, with all its people.
    """
    pending = (pending_enrollments, pending_enrollments.c.expires_at > query.now)
    match query.state:
        case None:
            return [(authenticators, true()), pending, (asked_people, true())]
        case PersonState.ENROLLED:
            return [(authenticators, true())]
        case PersonState.PENDING:
            return [pending]
        case PersonState.NOT_ENROLLED:
            return [(asked_people, _NOT_ENROLLED)]
        case PersonState.IN_GRACE:
            return [(asked_people, _NEVER_ENROLLED if query.in_grace else false())]
        case PersonState.LOCKED:
            return [(authenticators, authenticators.c.locked_until > query.now)]
        case PersonState.SUSPENDED:
            in_a_row = authenticators.c.in_a_row >= FAILURES_UNTIL_SUSPENSION
            # Suspended people are locked as well: without this condition no index finds them.
            return [(authenticators, and_(authenticators.c.locked_until.is_not(None), in_a_row))]


def _people(tenant_id: TenantId, users: Select[tuple[str]], now: datetime) -> Select[Any]:
    """Read all that is stored of users, in one statement and in the order of their ids."""
    of = users.subquery("users")
    joined: FromClause = of
    for table in (authenticators, reset_codes, accounts, asked_people, past_authenticators):
        is_theirs = and_(table.c.tenant_id == tenant_id, table.c.user_id == of.c.user_id)
        joined = joined.join(table, is_theirs, isouter=True)
    wizards = pending_enrollments.c
    pending_until = (
        select(func.max(wizards.expires_at))
        .where(wizards.tenant_id == tenant_id, wizards.user_id == of.c.user_id)
        .where(wizards.expires_at > now)
        .scalar_subquery()
    )
    return (
        select(
            of.c.user_id.label("person"),
            authenticators,
            reset_codes.c.user_id.label("with_reset_code"),
            accounts.c.mfa_enabled,
            asked_people.c.first_asked_at,
            asked_people.c.last_asked_at,
            past_authenticators.c.user_id.label("with_past"),
            pending_until.label("pending_until"),
        )
        .select_from(joined)
        .order_by(of.c.user_id)
    )


def _read_if_known(row: Row[Any]) -> Person | None:
    """Read a person. A past authenticator alone makes nobody known."""
    known = (row.enrollment_id, row.mfa_enabled, row.last_asked_at, row.pending_until)
    return None if all(value is None for value in known) else _read_person(row)


def _read_person(row: Row[Any]) -> Person:
    is_enrolled, has_account = row.enrollment_id is not None, row.mfa_enabled is not None
    return Person(
        UserId(row.person),
        authenticator=read_authenticator(row) if is_enrolled else None,
        has_reset_code=row.with_reset_code is not None,
        account_mfa_enabled=row.mfa_enabled or False,
        pending_until=row.pending_until,
        first_asked_at=row.first_asked_at,
        last_asked_at=row.last_asked_at,
        ever_enrolled=is_enrolled or has_account or row.with_past is not None,
    )
