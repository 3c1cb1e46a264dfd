"""The audit rows as they lie there, byte by byte, for verification (S14).

Whoever alters a database is not bound to what the service writes. SQLite stores any type in any
column, and text that is no UTF-8; its driver fails on that. So columns are read as bytes here, with
their types beside them, and a row is good only if `append` would have written these very bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, Table, func, select, union_all

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import ChainedEvent, Event, EventKind, canonical_json
from stepup.domain.chain import Damage, Head, StoredEvent, StoredHead, Unreadable
from stepup.service.ports import Place
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.octets import IsNoText, Octets, RowPlace, TextOf, Types
from stepup.stores.sql.tables import audit_events, audit_heads

_T = TypeVar("_T")
_HASH_BYTES = 32


class SqlStoredChains(Repository):
    """Implements `StoredChains`."""

    async def next_tenant(self, after: str | None) -> str | None:
        """The tenant after a tenant, among those that have events or a head; None at the end."""
        first = [_first_tenant(table, after).subquery() for table in (audit_events, audit_heads)]
        either = union_all(*(select(found.c.tenant_id) for found in first)).subquery()
        # The database compares, as it does in the condition: collations differ.
        statement = select(Octets(func.min(either.c.tenant_id)))
        return await self._connection.fetch_first(
            statement, lambda row: None if row[0] is None else _tenant(row[0])
        )

    async def stored(self, tenant: str, place: Place, limit: int) -> Sequence[StoredEvent]:
        """The next rows in the order of numbers, those without one last."""
        condition = audit_events.c.tenant_id == _key(tenant)
        if place.sequence is not None:
            condition &= audit_events.c.sequence >= place.sequence
        statement = _rows(audit_events, condition, limit, place.seen)
        return await self._connection.fetch_all(statement, lambda row: _event(tenant, row))

    async def head(self, tenant: str) -> StoredHead:
        """The head of the chain."""
        statement = _rows(audit_heads, audit_heads.c.tenant_id == _key(tenant), limit=2)
        found = await self._connection.fetch_all(statement, lambda row: _head(tenant, row))
        return Unreadable(None, "there are two") if len(found) > 1 else next(iter(found), None)

    async def misplaced(self, limit: int) -> Sequence[Damage]:
        """Rows that belong to no tenant at all, and so to no chain; the first few."""
        found: list[Damage] = []
        for table in (audit_events, audit_heads):
            statement = _rows(table, IsNoText(table.c.tenant_id), limit)
            found += await self._connection.fetch_all(statement, _misplaced)
        return found[:limit]


def _first_tenant(table: Table, after: str | None) -> Select[Any]:
    tenant_id = table.c.tenant_id
    statement = select(tenant_id).where(~IsNoText(tenant_id)).order_by(tenant_id).limit(1)
    return statement if after is None else statement.where(tenant_id > _key(after))


def _rows(table: Table, condition: ColumnElement[bool], limit: int, offset: int = 0) -> Select[Any]:
    """Whole rows by their keys.

    SQLite may answer from an index what the table does not hold any more: the index only says where
    rows are, and everything is then read from the table.
    """
    place = RowPlace(table.c.tenant_id)
    keys = (
        select(place.label("place"), table.c.sequence.label("number"))
        .where(condition)
        .order_by(table.c.sequence)
        .limit(limit)
        .offset(offset)
        .subquery("keys")
    )
    return (
        select(
            Types(*table.c).label("types"),
            Octets(keys.c.number).label("number"),
            *(Octets(column).label(column.name) for column in table.c),
        )
        .join_from(keys, table, place == keys.c.place)
        .order_by(keys.c.number)
    )


def _key(tenant: str) -> TextOf:
    return TextOf(tenant.encode("ascii", "surrogateescape"))


def _event(tenant: str, row: Row[Any]) -> StoredEvent:
    values = _as_written(tenant, row, _EVENT_TYPES, _EVENT)
    if isinstance(values, Unreadable):
        return values
    sequence, previous_hash, own_hash = map(values.pop, ("sequence", "previous_hash", "hash"))
    return ChainedEvent(Event(**values), sequence, previous_hash, own_hash)


def _head(tenant: str, row: Row[Any]) -> Head | Unreadable:
    values = _as_written(tenant, row, _HEAD_TYPES, _HEAD)
    if isinstance(values, Unreadable):
        return values
    return Head(values["sequence"], values["hash"])


def _misplaced(row: Row[Any]) -> Damage:
    return Damage(_tenant(row.tenant_id), _number(row.number), "the row belongs to no tenant")


def _as_written(
    tenant: str,
    row: Row[Any],
    types: frozenset[str],
    columns: Mapping[str, Callable[[bytes], Any]],
) -> dict[str, Any] | Unreadable:
    number = _number(row.number)
    if row.types not in types:
        return Unreadable(number, "a column has a type that is never written")
    values: dict[str, Any] = {}
    for name, read in columns.items():
        octets = row._mapping[name]  # noqa: SLF001  # public in spite of its name
        try:
            values[name] = None if octets is None else read(octets)
        except Exception:  # noqa: BLE001  # whatever it is, it is told, and the next row is read
            return Unreadable(number, f"{name} is not as it was written")
    if (values["tenant_id"], values["sequence"]) != (tenant, number):
        return Unreadable(number, "the row is not the one that the index names")
    return values


def _tenant(octets: bytes) -> str:
    return octets.decode("ascii", "surrogateescape")


def _number(octets: bytes) -> int | None:
    try:
        return _integer(octets)
    except ValueError:
        return None


def _integer(octets: bytes) -> int:
    return _same(int(octets), octets, str)


def _instant(octets: bytes) -> datetime:
    naive = datetime.fromisoformat(octets.decode("ascii"))
    _same(naive, octets, lambda value: value.isoformat(sep=" ", timespec="microseconds"))
    return naive.replace(tzinfo=UTC)


def _details(octets: bytes) -> Any:
    details = _same(json.loads(octets), octets, canonical_json)
    if not isinstance(details, dict):
        raise TypeError
    return details


def _hash(octets: bytes) -> bytes:
    if len(octets) != _HASH_BYTES:
        raise ValueError
    return octets


def _same(value: _T, octets: bytes, write: Callable[[_T], str]) -> _T:
    """The value, if it is written in these very octets and no others."""
    if write(value).encode() != octets:
        raise ValueError
    return value


_EVENT_TYPES = frozenset(
    f"text integer text text text text text {subject} text blob blob"
    for subject in ("text", "null")
)
_EVENT: Mapping[str, Callable[[bytes], Any]] = {
    "tenant_id": lambda octets: TenantId(octets.decode()),
    "sequence": _integer,
    "event_id": bytes.decode,
    "kind": lambda octets: EventKind(octets.decode()),
    "occurred_at": _instant,
    "caller": lambda octets: CallerId(octets.decode()),
    "actor_user_id": lambda octets: UserId(octets.decode()),
    "subject_user_id": lambda octets: UserId(octets.decode()),
    "details": _details,
    "previous_hash": _hash,
    "hash": _hash,
}
_HEAD_TYPES = frozenset({"text integer blob"})
_HEAD: Mapping[str, Callable[[bytes], Any]] = {
    "tenant_id": lambda octets: TenantId(octets.decode()),
    "sequence": _integer,
    "hash": _hash,
}
