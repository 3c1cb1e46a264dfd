"""The change feed, by which workers learn of each other's changes (S10)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Row,
    Select,
    bindparam,
    func,
    insert,
    select,
    text,
    tuple_,
)

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    Change,
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevocations,
    UserRevoked,
)
from stepup.domain.instants import MICROSECOND
from stepup.service.ports import Announced, FeedPosition
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.tables import audit_events, changes, of_no_session

# SQLite has one writer: rows become visible in the order of their numbers, and nothing is ever in
# flight. PostgreSQL has many: each row has the number of its transaction, and a snapshot says which
# transactions have ended.
#
# Somebody may restore an older state into the open file. Each transaction that changes something
# appends an audit event, whose hash exists in no other history.
_POSITION_SQLITE = text(
    """
    SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'changes') AS seq,
    EXISTS (SELECT 1 FROM folded_ids) AS folded, tenant_id, sequence, hash
    FROM (SELECT 1) LEFT JOIN
        (SELECT tenant_id, sequence, hash FROM audit_events ORDER BY rowid DESC LIMIT 1)
    """
)
_EVENT = select(audit_events.c.sequence).where(
    audit_events.c.tenant_id == bindparam("tenant_id"),
    audit_events.c.sequence == bindparam("sequence"),
    audit_events.c.hash == bindparam("hash"),
)
# After a promotion the last checkpoint may still have the old timeline; the name of the WAL file
# has the current one. A standby refuses to name it. The start time differs after the restore of a
# file system, which PostgreSQL itself does not notice; the table's oid after one of the database.
_POSITION_POSTGRESQL = text(
    """
    SELECT concat_ws(
        '/',
        (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        extract(epoch FROM pg_postmaster_start_time()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        to_regclass('changes')::oid
    ) AS server, CAST(pg_current_snapshot() AS text) AS snapshot,
    EXISTS (SELECT FROM folded_ids) AS folded
    """
)
_NEWEST = select(func.max(changes.c.created_at))
_LATE = select(changes).where(changes.c.xact_id.in_(bindparam("in_flight", expanding=True)))


_BY_INSTANT = select(changes).order_by(changes.c.created_at, changes.c.id).limit(bindparam("limit"))
_SINCE = _BY_INSTANT.where(changes.c.created_at >= bindparam("since"))
_SAME_INSTANT = _BY_INSTANT.where(
    changes.c.created_at == bindparam("instant"), changes.c.id > bindparam("last_id")
)


def _between(transaction: ColumnElement[int]) -> Select[Any]:
    # One lower bound only: of two bounds, SQLite may search by the one that all portions share, and
    # read again the rows of the earlier portions.
    return (
        select(changes)
        .where(
            tuple_(transaction, changes.c.id) > tuple_(bindparam("last"), bindparam("last_id")),
            transaction < bindparam("end"),
        )
        .order_by(transaction, changes.c.id)
        .limit(bindparam("limit"))
    )


_BETWEEN_SQLITE, _BETWEEN_POSTGRESQL = _between(changes.c.id), _between(changes.c.xact_id)


class SqlChangeFeed(Repository):
    """Implements `ChangeFeed`."""

    async def announce(self, change: Change, now: datetime) -> None:
        # PostgreSQL fills in `xact_id` by a default.
        await self._connection.write(
            insert(changes).values(created_at=now, tenant_id=change.tenant_id, **_values(change))
        )

    async def position(self) -> FeedPosition:
        if self._connection.is_sqlite:
            [row] = await self._connection.fetch_all(_POSITION_SQLITE, lambda row: row)
            return FeedPosition(
                "{}/{}".format(*self._connection.file),
                (row.seq or 0) + 1,
                ids_are_folded=bool(row.folded),
                newest_event=None if row.hash is None else (row.tenant_id, row.sequence, row.hash),
            )
        [position] = await self._connection.fetch_all(_POSITION_POSTGRESQL, _read_position)
        return position

    async def contains(self, position: FeedPosition) -> bool:
        if position.newest_event is None:
            return True
        values = zip(("tenant_id", "sequence", "hash"), position.newest_event, strict=True)
        return bool(await self._connection.fetch_all(_EVENT, tuple, **dict(values)))

    async def newest(self) -> datetime | None:
        return await self._connection.fetch_first(_NEWEST, lambda row: row[0])

    async def recent(
        self, since: datetime, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        same: Sequence[Announced] = ()
        if after is not None:
            # SQLite compares rows by their first column only when it searches an index: a million
            # changes of one instant would be read from the first one for each portion.
            since = after.announced_at + MICROSECOND
            same = await self._announced(
                _SAME_INSTANT, instant=after.announced_at, last_id=after.number, limit=limit
            )
        if len(same) == limit:
            return same
        return [*same, *await self._announced(_SINCE, since=since, limit=limit - len(same))]

    async def late_commits(self, position: FeedPosition) -> Sequence[Change]:
        if not position.in_flight:
            return []
        return await self._connection.fetch_all(_LATE, _read, in_flight=position.in_flight)

    async def between(
        self, start: FeedPosition, end: FeedPosition, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        last, last_id = (start.next, 0) if after is None else (after.transaction, after.number)
        statement = _BETWEEN_SQLITE if self._connection.is_sqlite else _BETWEEN_POSTGRESQL
        return await self._announced(
            statement, end=end.next, last=last, last_id=last_id, limit=limit
        )

    async def revocations_of(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> UserRevocations:
        columns = changes.c
        rows = await self._connection.fetch_all(
            select(
                columns.enrollment_id,
                func.max(columns.through).label("through"),
                func.max(columns.created_at).label("announced_at"),
            )
            .where(
                columns.tenant_id == tenant_id,
                columns.user_id == user_id,
                of_no_session,
                columns.kind.in_(("user_revoked", "enrollment_ended")),
            )
            .group_by(columns.enrollment_id),
            lambda row: (row.enrollment_id, row.through, row.announced_at),
        )
        ended = {id_: announced_at for id_, _, announced_at in rows if id_ is not None}
        instants = [row[1] for row in rows if row[0] is None]
        if session_hash is not None:
            instants += await self._signed_out(tenant_id, user_id, session_hash)
        return UserRevocations(max(instants, default=None), ended)

    async def _signed_out(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> Sequence[datetime]:
        columns = changes.c
        return await self._connection.fetch_all(
            select(func.max(columns.through))
            .where(
                columns.tenant_id == tenant_id,
                columns.user_id == user_id,
                columns.session_hash == session_hash,
                columns.kind == "session_revoked",
            )
            .group_by(columns.kind),
            lambda row: row[0],
        )

    async def purge(self, before: datetime, limit: int) -> int:
        return await self._connection.delete_some(changes, changes.c.created_at < before, limit)

    async def _announced(self, statement: Executable, **values: Any) -> Sequence[Announced]:
        return await self._connection.fetch_all(statement, _read_announced, **values)


def _read_position(row: Row[Any]) -> FeedPosition:
    # PostgreSQL manual, "pg_snapshot": xmin, xmax, and the transactions in flight between them.
    _, following, in_flight = row.snapshot.split(":")
    return FeedPosition(
        row.server,
        int(following),
        tuple(map(int, in_flight.split(","))) if in_flight else (),
        row.folded,
    )


def _read_announced(row: Row[Any]) -> Announced:
    transaction = row.id if row.xact_id is None else row.xact_id
    return Announced(row.created_at, transaction, row.id, _read(row))


def _values(change: Change) -> dict[str, Any]:
    match change:
        case PolicyChanged():
            return {"kind": "policy_changed", "version": change.version}
        case UserRevoked():
            return {"kind": "user_revoked", "user_id": change.user_id, "through": change.through}
        case SessionRevoked():
            return {
                "kind": "session_revoked",
                "user_id": change.user_id,
                "session_hash": change.session_hash,
                "through": change.through,
            }
        case EnrollmentEnded():
            return {
                "kind": "enrollment_ended",
                "user_id": change.user_id,
                "enrollment_id": change.enrollment_id,
            }


def _read(row: Row[Any]) -> Change:
    tenant_id = TenantId(row.tenant_id)
    match row.kind:
        case "policy_changed":
            return PolicyChanged(tenant_id, row.version)
        case "user_revoked":
            return UserRevoked(tenant_id, UserId(row.user_id), row.through)
        case "session_revoked":
            return SessionRevoked(
                tenant_id, UserId(row.user_id), SessionHash(row.session_hash), row.through
            )
        case "enrollment_ended":
            return EnrollmentEnded(tenant_id, UserId(row.user_id), row.enrollment_id)
    # Only a newer version announces such a change: its meaning would be a guess.
    raise ValueError("unknown kind of change")
