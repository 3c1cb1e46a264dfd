"""The stored audit rows, byte by byte, for verification (S14).

An attacker who can alter the database may store more than the service ever writes. SQLite stores
any type in any column, and text that is not UTF-8; its driver fails on such text. So columns are
read as bytes here, together with their types, and a row is good only if `append` would have written
these very bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, Table, and_, func, select, union_all

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import SALT_BYTES, ChainedEvent, Event, EventKind, canonical_json
from stepup.domain.chain import (
    Checkpoint,
    Damage,
    EventClient,
    Head,
    StoredCheckpoint,
    StoredClient,
    StoredEvent,
    StoredHead,
    Unreadable,
)
from stepup.service.ports import ChainPosition
from stepup.stores.sql.connection import Repository
from stepup.stores.sql.octets import Octets
from stepup.stores.sql.tables import audit_checkpoints, audit_events, audit_heads, event_clients

_T = TypeVar("_T")
_HASH_BYTES = 32
NOBODY = ""
"""The stored actor of an event in which no person of the tenant acted; no user has this id."""
_OF_TENANTS = (audit_events, audit_heads, audit_checkpoints, event_clients)


class SqlStoredChains(Repository):
    """Implements `StoredChains`."""

    async def next_tenant(self, after: str | None) -> str | None:
        octets = self._octets
        first = []
        for table in _OF_TENANTS:
            tenant_id = table.c.tenant_id
            query = select(tenant_id).where(~octets.is_no_text(tenant_id))
            if after is not None:
                query = query.where(tenant_id > octets.text(_written(after)))
            first.append(select(query.order_by(tenant_id).limit(1).subquery()))
        either = union_all(*first).subquery()
        # The database compares, as it does in the condition: collations differ.
        statement = select(octets.of(func.min(either.c.tenant_id)))
        return await self._connection.fetch_first(
            statement, lambda row: None if row[0] is None else _tenant(row[0])
        )

    async def stored(
        self, tenant: str, position: ChainPosition, limit: int
    ) -> Sequence[StoredEvent]:
        condition = audit_events.c.tenant_id == self._octets.text(_written(tenant))
        if position.sequence is not None:
            condition &= audit_events.c.sequence >= position.sequence
        statement = self._rows(audit_events, condition, limit, position.seen)
        return await self._connection.fetch_all(statement, lambda row: _event(tenant, row))

    async def clients(
        self, tenant: str, after: int, through: int | None, limit: int
    ) -> Sequence[StoredClient]:
        table = event_clients.c
        condition = and_(
            table.tenant_id == self._octets.text(_written(tenant)), table.sequence > after
        )
        if through is not None:
            condition &= table.sequence <= through
        statement = self._rows(event_clients, condition, limit)
        return await self._connection.fetch_all(statement, lambda row: _client(tenant, row))

    async def head(self, tenant: str) -> StoredHead:
        condition = audit_heads.c.tenant_id == self._octets.text(_written(tenant))
        found = await self._connection.fetch_all(
            self._rows(audit_heads, condition, limit=2), lambda row: _head(tenant, row)
        )
        return Unreadable(None, "there are two") if len(found) > 1 else next(iter(found), None)

    async def checkpoint(self, tenant: str) -> StoredCheckpoint:
        condition = audit_checkpoints.c.tenant_id == self._octets.text(_written(tenant))
        found = await self._connection.fetch_all(
            self._rows(audit_checkpoints, condition, limit=2), lambda row: _checkpoint(tenant, row)
        )
        return Unreadable(None, "there are two") if len(found) > 1 else next(iter(found), None)

    async def misplaced(self, limit: int) -> Sequence[Damage]:
        found: list[Damage] = []
        for table in _OF_TENANTS:
            statement = self._rows(table, self._octets.is_no_text(table.c.tenant_id), limit)
            found += await self._connection.fetch_all(statement, _misplaced)
        return found[:limit]

    @property
    def _octets(self) -> Octets:
        return Octets(is_sqlite=self._connection.is_sqlite)

    def _rows(
        self, table: Table, condition: ColumnElement[bool], limit: int, offset: int = 0
    ) -> Select[Any]:
        """Whole rows, in the order of their numbers.

        SQLite may answer from an index although the table has changed: the index only finds rows
        here, and everything is then read from the table.
        """
        octets = self._octets
        place = octets.row_place(table)
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
                octets.types(table.c).label("types"),
                octets.of(keys.c.number).label("number"),
                *(octets.of(column).label(column.name) for column in table.c),
            )
            .join_from(keys, table, place == keys.c.place)
            .order_by(keys.c.number)
        )


def _event(tenant: str, row: Row[Any]) -> StoredEvent:
    values = _as_written(tenant, row, _EVENT_TYPES, _EVENT)
    if isinstance(values, Unreadable):
        return values
    sequence, previous_hash, own_hash = map(values.pop, ("sequence", "previous_hash", "hash"))
    return ChainedEvent(Event(**values), sequence, previous_hash, own_hash)


def _client(tenant: str, row: Row[Any]) -> StoredClient:
    values = _as_written(tenant, row, _CLIENT_TYPES, _CLIENT)
    if isinstance(values, Unreadable):
        return values
    client = Device(values["address"], values["user_agent"])
    return EventClient(
        values["sequence"], values["user_id"], values["occurred_at"], values["salt"], client
    )


def _head(tenant: str, row: Row[Any]) -> Head | Unreadable:
    values = _as_written(tenant, row, _HEAD_TYPES, _HEAD)
    if isinstance(values, Unreadable):
        return values
    return Head(values["sequence"], values["hash"])


def _checkpoint(tenant: str, row: Row[Any]) -> Checkpoint | Unreadable:
    values = _as_written(tenant, row, _CHECKPOINT_TYPES, _CHECKPOINT)
    if isinstance(values, Unreadable):
        return values
    del values["tenant_id"]
    return Checkpoint(tenant, **values)


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
        except Exception:  # noqa: BLE001  # whatever fails, the next row is read
            return Unreadable(number, f"{name} is not as it was written")
    if (values["tenant_id"], values["sequence"]) != (tenant, number):
        return Unreadable(number, "the row is not the one that the index names")
    return values


def _written(tenant: str) -> bytes:
    return tenant.encode("ascii", "surrogateescape")


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


def _hash(octets: bytes, length: int = _HASH_BYTES) -> bytes:
    if len(octets) != length:
        raise ValueError
    return octets


def _same(value: _T, octets: bytes, write: Callable[[_T], str]) -> _T:
    """The value, if these octets are the only way to write it."""
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
    "actor_user_id": lambda octets: UserId(octets.decode()) if octets else None,
    "subject_user_id": lambda octets: UserId(octets.decode()),
    "details": _details,
    "previous_hash": _hash,
    "hash": _hash,
}
_CLIENT_TYPES = frozenset({"text integer text text blob text text"})
_CLIENT: Mapping[str, Callable[[bytes], Any]] = {
    "tenant_id": lambda octets: TenantId(octets.decode()),
    "sequence": _integer,
    "user_id": lambda octets: UserId(octets.decode()),
    "occurred_at": _instant,
    "salt": lambda octets: _hash(octets, SALT_BYTES),
    "address": bytes.decode,
    "user_agent": bytes.decode,
}
_CHECKPOINT_TYPES = frozenset({"text integer blob text text blob"})
_CHECKPOINT: Mapping[str, Callable[[bytes], Any]] = {
    "tenant_id": lambda octets: TenantId(octets.decode()),
    "sequence": _integer,
    "hash": _hash,
    "pruned_at": _instant,
    "key_id": bytes.decode,
    "signature": bytes,
}
_HEAD_TYPES = frozenset({"text integer blob"})
_HEAD: Mapping[str, Callable[[bytes], Any]] = {
    "tenant_id": lambda octets: TenantId(octets.decode()),
    "sequence": _integer,
    "hash": _hash,
}
