"""`stepup audit prune`: delete the oldest events, and sign where the chain begins then (S14)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeGuard

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.audit import ChainedEvent, EventKind, written
from stepup.domain.chain import (
    ChainCheck,
    Checkpoint,
    Damage,
    Head,
    StoredCheckpoint,
    StoredEvent,
    Unreadable,
)
from stepup.domain.values import value
from stepup.service.audit.checkpoints import checkpoint_problem, signed_checkpoint
from stepup.service.calls.context import HostContext
from stepup.service.ports import ChainPosition, Database, HeadKeys, StoredChains

PRUNE: Final = CallerId("audit prune")
"""The caller of the events."""
PORTION = 1000
"""How many events one transaction deletes; on SQLite, other writes wait for its end."""


class ChainDamagedError(Exception):
    """The events to delete are not those that were appended. Only commands raise it."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.problem)
        self.damage = damage


@value
class _Chain:
    """A chain: its last pruned event, and the number of the last event that stays."""

    tenant_id: TenantId
    begin: Head | None
    last: int


@value
class _Portion:
    """Some of the oldest events of a chain: their number, and the last one."""

    events: int
    last: Head


@dataclass(frozen=True, slots=True)
class PruneAudit:
    """Deletes the events of a tenant before the first one that is not older than an instant.

    The event that is the last one when a prune begins stays. Damaged events are evidence, which
    stays: a checkpoint would hide the damage.
    """

    database: Database
    keys: HeadKeys

    async def count(self, tenant_id: TenantId, before: datetime) -> int:
        """Return how many events `__call__` would delete.

        Raises:
            ChainDamagedError: one of them is damaged.
            StoreUnavailableError: the events cannot be read.
        """
        async with self.database.snapshot() as records:
            begin = self._begin(tenant_id, await records.audit.checkpoint(tenant_id))
            last = await _last(records.audit, tenant_id)
        position, events = ChainPosition(), 0
        while True:
            async with self.database.snapshot() as records:
                chain = _Chain(tenant_id, begin, last)
                portion = await _oldest(records.audit, chain, before, position)
            if portion is None:
                return events
            begin, position = portion.last, ChainPosition(portion.last.sequence + 1)
            events += portion.events

    async def __call__(self, context: HostContext, before: datetime) -> int:
        """Delete events and their devices, and return how many events.

        Each portion is deleted in a transaction of its own, which also stores the checkpoint and
        appends an event. If the command is killed, the next run continues.

        Raises:
            ChainDamagedError: an event to delete, or the checkpoint, is damaged: it stays.
            StoreUnavailableError: what was deleted before has its checkpoint.
        """
        events = 0
        async with self.database.snapshot() as records:
            last = await _last(records.audit, context.tenant_id)
        while (deleted := await self._delete_portion(context, before, last)) is not None:
            events += deleted
        return events

    async def _delete_portion(
        self, context: HostContext, before: datetime, last: int
    ) -> int | None:
        """Delete events; return how many, or None if no more are old enough.

        If there are none to delete, the primary key signs the checkpoint again.
        """
        tenant_id = context.tenant_id
        async with self.database.transaction(tenant_id) as records:
            stored = await records.audit.checkpoint_for_update(tenant_id)
            chain = _Chain(tenant_id, self._begin(tenant_id, stored), last)
            portion = await _oldest(records.audit, chain, before, ChainPosition())
            if portion is not None:
                await records.audit.prune(
                    signed_checkpoint(self.keys, tenant_id, portion.last, context.now)
                )
                pruned = context.event(
                    EventKind.AUDIT_PRUNED,
                    through_sequence=portion.last.sequence,
                    events=portion.events,
                    before=written(before),
                )
                await records.audit.append(pruned)
                return portion.events
            if isinstance(stored, Checkpoint) and stored.key_id != self.keys.primary:
                # After a rotation the earlier key may leave the ring: then nobody could verify the
                # checkpoint.
                at = Head(stored.sequence, stored.hash)
                again = signed_checkpoint(self.keys, tenant_id, at, stored.pruned_at)
                await records.audit.prune(again)
        return None

    def _begin(self, tenant_id: TenantId, stored: StoredCheckpoint) -> Head | None:
        """The last event that was pruned; None if none was."""
        problem = checkpoint_problem(stored, self.keys)
        if problem is not None:
            raise ChainDamagedError(Damage(tenant_id, None, problem))
        return Head(stored.sequence, stored.hash) if isinstance(stored, Checkpoint) else None


async def _last(chains: StoredChains, tenant_id: TenantId) -> int:
    """The number of the last event; 0 if there is none."""
    head = await chains.head(tenant_id)
    if isinstance(head, Unreadable):
        raise ChainDamagedError(Damage(tenant_id, None, f"the head of the chain: {head.problem}"))
    return head.sequence if head is not None else 0


async def _oldest(
    chains: StoredChains, chain: _Chain, before: datetime, position: ChainPosition
) -> _Portion | None:
    """Find the events to delete, at most `PORTION`, and demand that they are intact.

    The event after them is checked, too: it has the hash of the last one.
    """
    check, found, begin = ChainCheck(chain.tenant_id), None, chain.begin
    if begin is not None:
        check.begin_after(begin)
    page = await chains.stored(chain.tenant_id, position, 1)
    if page and _is_older(page[0], before):
        page = await chains.stored(chain.tenant_id, position, PORTION + 1)
    for stored in page:
        for damage in check.follow(stored):
            raise ChainDamagedError(damage)
        if not _is_older(stored, before) or stored is page[-1] or stored.sequence >= chain.last:
            return found
        events = stored.sequence - (begin.sequence if begin else 0)
        found = _Portion(events, Head(stored.sequence, stored.hash))
    return found


def _is_older(stored: StoredEvent, before: datetime) -> TypeGuard[ChainedEvent]:
    return isinstance(stored, ChainedEvent) and stored.event.occurred_at < before
