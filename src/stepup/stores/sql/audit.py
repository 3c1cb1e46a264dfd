"""The audit events: one hash chain per tenant (S13, S14)."""

import secrets
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, Text, and_, bindparam, delete, insert, or_, select, update

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import (
    NO_HASH,
    SALT_BYTES,
    ChainedEvent,
    Event,
    EventKind,
    canonical_json,
)
from stepup.domain.chain import Checkpoint, StoredCheckpoint
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import EventQuery
from stepup.stores.sql.audit_rows import NOBODY, SqlStoredChains
from stepup.stores.sql.tables import audit_checkpoints, audit_events, audit_heads, event_clients

_HEAD = (
    select(audit_heads).where(audit_heads.c.tenant_id == bindparam("tenant_id")).with_for_update()
)
_MOVE_HEAD = update(audit_heads).where(audit_heads.c.tenant_id == bindparam("of_tenant"))
# Each value has exactly one text: any other text is an alteration (S14).
_APPEND = insert(audit_events).values(details=bindparam("canonical_details", type_=Text))
_APPEND_CLIENT = insert(event_clients)
_WITH_CLIENTS = select(audit_events, event_clients.c.address, event_clients.c.user_agent).join_from(
    audit_events,
    event_clients,
    and_(
        event_clients.c.tenant_id == audit_events.c.tenant_id,
        event_clients.c.sequence == audit_events.c.sequence,
    ),
    isouter=True,
)


class SqlAuditTrail(SqlStoredChains):
    """Implements `AuditTrail`. The head of each chain is a row: to lock it is to lock the chain."""

    async def append(self, event: Event) -> ChainedEvent:
        salt = secrets.token_bytes(SALT_BYTES)
        event = event.with_client_hash(salt)
        sequence, previous_hash = await self._lock_head(event.tenant_id)
        chained = ChainedEvent.after(sequence, previous_hash, event)
        await self._connection.write(
            _APPEND,
            tenant_id=event.tenant_id,
            sequence=chained.sequence,
            event_id=event.event_id,
            kind=event.kind.value,
            occurred_at=event.occurred_at,
            caller=event.caller,
            actor_user_id=event.actor_user_id or NOBODY,
            subject_user_id=event.subject_user_id,
            canonical_details=canonical_json(event.details),
            previous_hash=chained.previous_hash,
            hash=chained.hash,
        )
        if event.client is not None:
            await self._connection.write(
                _APPEND_CLIENT,
                tenant_id=event.tenant_id,
                sequence=chained.sequence,
                user_id=event.actor_user_id or NOBODY,
                occurred_at=event.occurred_at,
                salt=salt,
                address=event.client.address,
                user_agent=event.client.user_agent,
            )
        await self._connection.write(
            _MOVE_HEAD,
            of_tenant=event.tenant_id,
            sequence=chained.sequence,
            hash=chained.hash,
        )
        return chained

    async def list(self, query: EventQuery, limit: int) -> Sequence[ChainedEvent]:
        return await self._connection.fetch_all(_matching(query).limit(limit), _read)

    async def checkpoint_for_update(self, tenant_id: TenantId) -> StoredCheckpoint:
        await self._connection.lock_name(f"prune/{tenant_id}")
        return await self.checkpoint(tenant_id)

    async def prune(self, checkpoint: Checkpoint) -> None:
        # `EventClients.forget` deletes devices with this lock: the other order is a deadlock.
        await self._connection.fetch_first(_HEAD, _read_head, tenant_id=checkpoint.tenant)
        for table in (event_clients, audit_events):
            of_tenant = table.c.tenant_id == checkpoint.tenant
            is_pruned = table.c.sequence <= checkpoint.sequence
            await self._connection.write(delete(table).where(of_tenant, is_pruned))
        await self._connection.insert_or_replace(
            audit_checkpoints,
            tenant_id=checkpoint.tenant,
            sequence=checkpoint.sequence,
            hash=checkpoint.hash,
            pruned_at=checkpoint.pruned_at,
            key_id=checkpoint.key_id,
            signature=checkpoint.signature,
        )

    async def _lock_head(self, tenant_id: TenantId) -> tuple[int, bytes]:
        found = await self._connection.fetch_first(_HEAD, _read_head, tenant_id=tenant_id)
        if found is None:
            # Another transaction may append the tenant's first event as well: one of the two waits
            # here for the other, and then reads the head that the other has left.
            await self._connection.insert_if_absent(
                audit_heads, tenant_id=tenant_id, sequence=0, hash=NO_HASH
            )
            found = await self._connection.fetch_first(_HEAD, _read_head, tenant_id=tenant_id)
        if found is None:
            raise StoreUnavailableError("the head of the audit chain is gone")
        return found


def _matching(query: EventQuery) -> Select[Any]:
    table = audit_events.c
    statement = _WITH_CLIENTS.where(
        table.tenant_id == query.tenant_id, table.sequence > query.after_sequence
    ).order_by(table.sequence.desc() if query.newest_first else table.sequence)
    if query.before_sequence is not None:
        statement = statement.where(table.sequence < query.before_sequence)
    if query.start is not None:
        statement = statement.where(table.occurred_at >= query.start)
    if query.end is not None:
        statement = statement.where(table.occurred_at < query.end)
    if query.user_id is not None:
        statement = statement.where(
            or_(table.actor_user_id == query.user_id, table.subject_user_id == query.user_id)
        )
    if query.kinds:
        statement = statement.where(table.kind.in_(sorted(kind.value for kind in query.kinds)))
    return statement


def _read_head(row: Row[Any]) -> tuple[int, bytes]:
    return row.sequence, row.hash


def _read(row: Row[Any]) -> ChainedEvent:
    event = Event(
        tenant_id=TenantId(row.tenant_id),
        kind=EventKind(row.kind),
        occurred_at=row.occurred_at,
        caller=CallerId(row.caller),
        actor_user_id=UserId(row.actor_user_id) if row.actor_user_id else None,
        subject_user_id=None if row.subject_user_id is None else UserId(row.subject_user_id),
        details=row.details,
        event_id=row.event_id,
        client=None if row.address is None else Device(row.address, row.user_agent),
    )
    return ChainedEvent(event, row.sequence, row.previous_hash, row.hash)
