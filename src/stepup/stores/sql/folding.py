"""Fold stored ids of tenants and users to lower case, when `identity.fold_case` is turned on.

Everything in force moves to the folded ids: authenticators and reset codes, which are sealed again
because their seals are bound to tenant and user, policies, toggles, and every other row of a user
or a tenant. Wizards and challenges are deleted, because they have a hash of the ids: people
begin again.

Audit events stay unchanged, because their hashes cover the ids (S14): the chain of `Acme` ends, and
that of `acme` continues. The devices of events stay with their events. The change feed stays, too:
its revocations name the old ids. People who were asked are asked again.

A mark stays in the database. A server that does not fold ids would find no policy under `Acme`, and
so allow everything: where it finds the mark, it refuses to decide.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Table,
    collate,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    union,
    update,
)

from stepup.domain.actor import TenantId, UserId, folded
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.service.ports import Keys, SealBrokenError
from stepup.stores.sql import tables
from stepup.stores.sql.migrate import transact

_LOCK = 0x666F_6C64  # "fold": the advisory lock of servers that start at once
_HISTORY = {
    tables.audit_events,
    tables.audit_heads,
    tables.audit_checkpoints,
    tables.event_clients,
    tables.changes,
}
_SEALED = {tables.authenticators, tables.reset_codes}
_DROPPED = {
    tables.pending_enrollments,
    tables.challenges,
    tables.challenge_items,
    tables.asked_people,
}

_Owner: TypeAlias = tuple[TenantId, UserId]


class IdsCollideError(Exception):
    """Two ids in use differ in case only; the message names both."""


async def fold_ids(url: str, keys: Keys) -> None:
    """Move everything in force to folded ids, in one transaction; a second call changes nothing.

    Raises:
        IdsCollideError: two ids differ in case only. Nothing was changed.
        StoreUnavailableError: the database cannot be read or changed. Nothing was changed.
    """
    collision = await transact(url, lambda connection: _fold(connection, keys))
    if collision is not None:
        raise IdsCollideError(collision)


def _fold(connection: Connection, keys: Keys) -> str | None:
    """Fold all ids, and return None; or change nothing, and return which two ids collide."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    in_force = [
        table
        for table in tables.metadata.sorted_tables
        if "tenant_id" in table.c and table not in _HISTORY
    ]
    collision = _collision_of_tenants(connection, in_force) or _collision_of_users(
        connection, [table for table in in_force if "user_id" in table.c]
    )
    if collision is not None:
        return collision
    for table in in_force:
        if table in _DROPPED:
            connection.execute(delete(table).where(_is_unfolded(connection, table)))
        elif table not in _SEALED:
            ids = {column.name: _folded(connection, column) for column in _ids(table)}
            connection.execute(update(table).where(_is_unfolded(connection, table)).values(ids))
    _move_authenticators(connection, keys)
    _move_reset_codes(connection, keys)
    if connection.execute(select(tables.folded_ids)).first() is None:
        connection.execute(insert(tables.folded_ids).values(since=datetime.now(UTC)))
    return None


def _ids(table: Table) -> list[ColumnElement[str]]:
    return [table.c[name] for name in ("tenant_id", "user_id") if name in table.c]


def _folded(connection: Connection, column: ColumnElement[str]) -> ColumnElement[str]:
    """A column in ASCII lower case, whatever the locale of the database is."""
    is_sqlite = connection.dialect.name == "sqlite"
    return func.lower(column if is_sqlite else collate(column, "C"))


def _is_unfolded(connection: Connection, table: Table) -> ColumnElement[bool]:
    return or_(*(column != _folded(connection, column) for column in _ids(table)))


def _collision_of_tenants(connection: Connection, in_force: Iterable[Table]) -> str | None:
    def tenants(of: Iterable[Table]) -> set[str]:
        either = union(*(select(table.c.tenant_id) for table in of)).subquery()
        return set(connection.scalars(select(either.c.tenant_id)))

    spellings = defaultdict(set)
    moving = tenants(in_force)
    for tenant in moving:
        spellings[folded(tenant)].add(tenant)
    # A chain that ended when its tenant was folded collides with nothing.
    for tenant in tenants([tables.audit_heads]):
        if moving & spellings[folded(tenant)] - {folded(tenant)}:
            spellings[folded(tenant)].add(tenant)
    for same in spellings.values():
        if len(same) > 1:
            first, second, *_ = sorted(same)
            return f"the tenants {first!r} and {second!r} differ in case only"
    return None


def _collision_of_users(connection: Connection, of_users: Iterable[Table]) -> str | None:
    users = union(*(select(table.c.tenant_id, table.c.user_id) for table in of_users)).subquery()
    tenant, user = (_folded(connection, each) for each in (users.c.tenant_id, users.c.user_id))
    found = connection.execute(
        select(tenant, func.min(users.c.user_id), func.max(users.c.user_id))
        .group_by(tenant, user)
        .having(func.count() > 1)
        .limit(1)
    ).first()
    if found is None:
        return None
    of_tenant, first, second = found
    return f"the users {first!r} and {second!r} of the tenant {of_tenant!r} differ in case only"


def _move_authenticators(connection: Connection, keys: Keys) -> None:
    def resealed(row: Row[Any], was: _Owner, becomes: _Owner) -> SealedSecret:
        secret = keys.open(SealedSecret(row.key_id, row.ciphertext), *was, row.enrollment_id)
        return keys.seal(secret, *becomes, row.enrollment_id)

    _move(connection, tables.authenticators, resealed)


def _move_reset_codes(connection: Connection, keys: Keys) -> None:
    def resealed(row: Row[Any], was: _Owner, becomes: _Owner) -> SealedSecret:
        sealed_key = SealedSecret(row.key_id, row.ciphertext)
        record = ResetCodeRecord(*was, row.enrollment_id, sealed_key, row.digest)
        return keys.reseal_reset_code(record, becomes).sealed_key

    _move(connection, tables.reset_codes, resealed)


def _move(
    connection: Connection,
    table: Table,
    resealed: Callable[[Row[Any], _Owner, _Owner], SealedSecret],
) -> None:
    for row in connection.execute(select(table).where(_is_unfolded(connection, table))).all():
        was = TenantId(row.tenant_id), UserId(row.user_id)
        becomes = TenantId(folded(row.tenant_id)), UserId(folded(row.user_id))
        values: dict[str, Any] = {"tenant_id": becomes[0], "user_id": becomes[1]}
        # A secret that does not open is moved unchanged: its user's next call logs that.
        with suppress(SealBrokenError):
            sealed = resealed(row, was, becomes)
            values |= {"key_id": sealed.key_id, "ciphertext": sealed.ciphertext}
        is_theirs = (table.c.tenant_id == was[0]) & (table.c.user_id == was[1])
        connection.execute(update(table).where(is_theirs).values(values))
