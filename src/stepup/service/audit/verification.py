"""`stepup audit verify`: whether exactly the appended events are stored (S14)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from stepup.domain.chain import (
    ChainCheck,
    Damage,
    Head,
    StoredEvent,
    StoredHead,
    client_problem,
)
from stepup.service.ports import ChainPosition, Database

PAGE = 500
MISPLACED_SHOWN = 100


@dataclass(slots=True)
class AuditVerification:
    """Reads chains page by page, while servers append to them; counts tenants and events.

    The chains must contain `exported`, the heads of an earlier export by tenant. The devices beside
    a chain must be those of its events; they may be gone.
    """

    database: Database
    exported: Mapping[str, Head] = field(default_factory=dict)
    tenants: int = 0
    events: int = 0

    async def of_all(self) -> AsyncIterator[Damage]:
        """Return every damage of every tenant.

        Raises:
            StoreUnavailableError: the events cannot be read; the rest remains unverified.
        """
        async with self.database.snapshot() as records:
            misplaced = await records.audit.misplaced(MISPLACED_SHOWN)
        for damage in misplaced:
            yield damage
        unseen = set(self.exported)
        tenant = await self._next_tenant(None)
        while tenant is not None:
            unseen.discard(tenant)
            async for damage in self.of(tenant):
                yield damage
            tenant = await self._next_tenant(tenant)
        for name in sorted(unseen):
            async for damage in self.of(name):
                yield damage

    async def of(self, tenant: str) -> AsyncIterator[Damage]:
        """Return every damage of one tenant.

        Raises:
            StoreUnavailableError: as `of_all`.
        """
        self.tenants += 1
        check = ChainCheck(tenant, self.exported.get(tenant))
        position = ChainPosition()
        head: StoredHead = None
        while True:
            async with self.database.snapshot() as records:
                page = await records.audit.stored(tenant, position, PAGE)
            before = check.last
            for stored in page:
                for damage in check.follow(stored):
                    yield damage
            async for damage in self._of_clients(tenant, page, before, check.last):
                yield damage
            self.events += len(page)
            position = _beyond(position, page)
            if not page and _counts_more(head, check):
                break
            if len(page) < PAGE:
                # Events may have been appended since the page was read. Events are missing only if
                # the head that counts them was read before a page without them.
                async with self.database.snapshot() as records:
                    head = await records.audit.head(tenant)
                if not _counts_more(head, check):
                    break
        for damage in check.finish(head):
            yield damage
        async for damage in self._of_clients(tenant, [], check.last, None):
            yield damage

    async def _of_clients(
        self, tenant: str, page: Sequence[StoredEvent], after: int, through: int | None
    ) -> AsyncIterator[Damage]:
        """Compare the devices in a range of numbers with the events of the range."""
        events = {stored.sequence: stored for stored in page}
        is_last = False
        while not is_last:
            async with self.database.snapshot() as records:
                clients = await records.audit.clients(tenant, after, through, PAGE)
            for client in clients:
                number = client.sequence
                event = events.get(number) or await self._event(tenant, number)
                problem = client_problem(client, event)
                if problem is not None:
                    yield Damage(tenant, number, problem)
            last = max((client.sequence or 0 for client in clients), default=0)
            # After damage, rows may have no number that a next page could begin after.
            is_last = len(clients) < PAGE or last <= after
            after = last

    async def _event(self, tenant: str, number: int | None) -> StoredEvent | None:
        """The event of a number, which may have been appended since the page was read."""
        async with self.database.snapshot() as records:
            found = await records.audit.stored(tenant, ChainPosition(number), 1)
        return next((stored for stored in found if stored.sequence == number), None)

    async def _next_tenant(self, after: str | None) -> str | None:
        async with self.database.snapshot() as records:
            return await records.audit.next_tenant(after)


def _counts_more(head: StoredHead, check: ChainCheck) -> bool:
    return isinstance(head, Head) and head.sequence > check.last


def _beyond(position: ChainPosition, page: Sequence[StoredEvent]) -> ChainPosition:
    for stored in page:
        number = stored.sequence
        if number is not None and (position.sequence is None or number > position.sequence):
            position = ChainPosition(number, 1)
        else:
            position = ChainPosition(position.sequence, position.seen + 1)
    return position
