"""The audit events: written, read and verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import ChainedEvent, Event, EventKind, Json
from stepup.domain.chain import (
    Checkpoint,
    Damage,
    StoredCheckpoint,
    StoredClient,
    StoredEvent,
    StoredHead,
)
from stepup.domain.values import value


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Selects the events of a tenant that meet every condition; None and empty mean all.

    The events are in the order of their sequence numbers, or in the reverse order.
    """

    tenant_id: TenantId
    after_sequence: int = 0
    before_sequence: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    user_id: UserId | None = None
    kinds: frozenset[EventKind] = frozenset()
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """How far a reader of a chain has got: it has read `seen` rows from the number `sequence` on.

    A number alone is not enough: after damage two rows may have one number.
    """

    sequence: int | None = None
    seen: int = 0


class StoredChains(Protocol):
    """The audit events as they are stored, for verification: damaged rows can be read, too.

    Tenants are ASCII with surrogate escapes (PEP 383): after damage, a row's tenant may not be a
    `TenantId`. Rows MUST be read from their table, not from an index over it.
    """

    async def next_tenant(self, after: str | None) -> str | None:
        """Return the next tenant with events or a head; the first after None; None at the end."""
        ...

    async def stored(
        self, tenant: str, position: ChainPosition, limit: int
    ) -> Sequence[StoredEvent]:
        """Return the next rows in the order of their numbers, those without a number last.

        A row whose bytes differ from those that `append` would have written MUST come as
        `Unreadable`.
        """
        ...

    async def clients(
        self, tenant: str, after: int, through: int | None, limit: int
    ) -> Sequence[StoredClient]:
        """Return the devices beside the events after one number, through another or to the end.

        They are in the order of the numbers. A row whose bytes differ from those that `append`
        would have written MUST come as `Unreadable`.
        """
        ...

    async def head(self, tenant: str) -> StoredHead:
        """Return the head of the chain."""
        ...

    async def checkpoint(self, tenant: str) -> StoredCheckpoint:
        """Return where the chain begins; None if none of its events were pruned."""
        ...

    async def misplaced(self, limit: int) -> Sequence[Damage]:
        """Return the first rows that belong to no tenant, and so to no chain."""
        ...


class AuditTrail(StoredChains, Protocol):
    """The audit events, one hash chain per tenant (S13, S14)."""

    async def append(self, event: Event) -> ChainedEvent:
        """Add an event after the tenant's last one, in the transaction that it describes.

        Parallel transactions MUST get different sequence numbers without a gap: the tenant's chain
        is locked until the transaction ends. Append last, so that all transactions take their locks
        in the same order.

        The device of the event is stored beside the chain, with a fresh salt; the chained event has
        the salted hash of the device in `details`.
        """
        ...

    async def list(self, query: EventQuery, limit: int) -> Sequence[ChainedEvent]:
        """Return the first events that match, in the order of the query.

        An event has its `client` until the device is deleted.
        """
        ...

    async def checkpoint_for_update(self, tenant_id: TenantId) -> StoredCheckpoint:
        """As `checkpoint`, in a transaction; of two prunes of a tenant, one waits for the other.

        It MUST be locked until the end, and so MUST its absence.
        """
        ...

    async def prune(self, checkpoint: Checkpoint) -> None:
        """Delete the events through a checkpoint, and the devices of these events.

        The checkpoint takes the place of the earlier one, whose lock the transaction MUST hold. A
        server's role has no right to do this (S14).
        """
        ...


@value
class DecisionEntry:
    """One line of the decision log: JSON values by name, never a secret."""

    decision_id: UUID
    decided_at: datetime
    caller: CallerId
    facts: Mapping[str, Json]


class DecisionLog(Protocol):
    """The log in which every decision is recorded before it is answered (S13)."""

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order. When the call returns, they have left the process."""
        ...
