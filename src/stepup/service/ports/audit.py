"""The audit events, to be written, read and verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stepup.domain.actor import TenantId, UserId
from stepup.domain.audit import ChainedEvent, Event, EventKind
from stepup.domain.chain import Damage, StoredEvent, StoredHead


@dataclass(frozen=True, slots=True)
class EventQuery:
    """Which events of a tenant to read: every condition holds; None and empty mean all."""

    tenant_id: TenantId
    after_sequence: int = 0
    start: datetime | None = None
    end: datetime | None = None
    user_id: UserId | None = None
    kinds: frozenset[EventKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader of a chain is: it has read `seen` rows from the number `sequence` on.

    A number alone would not do: after damage there may be two rows of one number.
    """

    sequence: int | None = None
    seen: int = 0


class StoredChains(Protocol):
    """The audit events as they lie there, for verification: no row is too damaged to be read.

    Tenants are ASCII with surrogate escapes (PEP 383): after damage one may be no `TenantId`. What
    is read MUST come from the rows themselves, not from an index over them.
    """

    async def next_tenant(self, after: str | None) -> str | None:
        """The tenant after a tenant, or the first, of those that have events or a head; or None."""
        ...

    async def stored(self, tenant: str, place: Place, limit: int) -> Sequence[StoredEvent]:
        """The next rows in the order of numbers, those without one last.

        A row that `append` would not have written exactly so, to the byte, MUST come as
        `Unreadable`.
        """
        ...

    async def head(self, tenant: str) -> StoredHead:
        """The head of the chain."""
        ...

    async def misplaced(self, limit: int) -> Sequence[Damage]:
        """Rows that belong to no tenant at all, and so to no chain; the first few."""
        ...


class AuditTrail(StoredChains, Protocol):
    """The audit events, one hash chain per tenant (S13, S14)."""

    async def append(self, event: Event) -> ChainedEvent:
        """Add an event after the tenant's last one, in the transaction of what it tells about.

        Parallel transactions MUST get different sequence numbers without a gap: the tenant's chain
        is locked until the end. Append last, so that everybody takes locks in the same order.
        """
        ...

    async def list(self, query: EventQuery, limit: int) -> Sequence[ChainedEvent]:
        """The first events that match, in the order of their sequence numbers."""
        ...
