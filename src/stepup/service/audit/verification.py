"""`stepup audit verify`: whether exactly the appended events are stored (S14)."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from stepup.domain.chain import (
    ChainCheck,
    Checkpoint,
    Damage,
    Head,
    StoredCheckpoint,
    StoredEvent,
    StoredHead,
    client_problem,
)
from stepup.service.audit.checkpoints import checkpoint_problem
from stepup.service.ports import ChainPosition, Database, HeadSignatures

PAGE = 500
MISPLACED_SHOWN = 100


@dataclass(slots=True)
class AuditVerification:
    """Reads chains page by page, while servers append to them and `stepup audit prune` deletes.

    It counts tenants and events. A checkpoint must have a good signature. The chains must contain
    `exported`, the heads of an earlier export by tenant. The devices beside a chain must be those
    of its events; they may be gone.
    """

    database: Database
    signatures: HeadSignatures
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
        reading = _Reading(self.database, self.signatures, tenant, check)
        compared = 0
        async for page, problems in reading.pages():
            for damage in chain(problems, *map(check.follow, page)):
                yield damage
            if check.last > compared:
                async for damage in self._compare_clients(tenant, page, compared, check.last):
                    yield damage
            compared = check.last
            self.events += len(page)
        for damage in check.finish(reading.head):
            yield damage
        async for damage in self._compare_clients(tenant, [], check.last, None):
            yield damage

    async def _compare_clients(
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


@dataclass(slots=True)
class _Reading:
    """Reads one chain page by page up to its head, beginning after its checkpoint."""

    database: Database
    signatures: HeadSignatures
    tenant: str
    check: ChainCheck
    checkpoint: StoredCheckpoint = None
    head: StoredHead = None

    async def pages(self) -> AsyncIterator[tuple[Sequence[StoredEvent], Sequence[Damage]]]:
        """Return pages, and what is wrong with the checkpoint. `check` MUST follow each page."""
        yield [], await self._begin_after_checkpoint()
        position = ChainPosition()
        while True:
            async with self.database.snapshot() as records:
                page = await records.audit.stored(self.tenant, position, PAGE)
            if _skips_events(page, self.check):
                earlier = self.checkpoint
                problems = await self._begin_after_checkpoint()
                if self.checkpoint != earlier:
                    # Events were pruned meanwhile, perhaps also some of this page.
                    yield [], problems
                    position = ChainPosition(self.check.last + 1)
                    continue
            yield page, []
            position = _beyond(position, page)
            if not page and _counts_more(self.head, self.check):
                return
            if len(page) < PAGE:
                # Events may have been appended since the page was read. Events are missing only if
                # the head that counts them was read before a page without them.
                async with self.database.snapshot() as records:
                    self.head = await records.audit.head(self.tenant)
                if not _counts_more(self.head, self.check):
                    return

    async def _begin_after_checkpoint(self) -> Sequence[Damage]:
        """Read the checkpoint, and begin after it if its signature is good; else say what is wrong.

        Read it before events: then no event that was pruned looks as if it was stored again.
        """
        async with self.database.snapshot() as records:
            self.checkpoint = await records.audit.checkpoint(self.tenant)
        problem = checkpoint_problem(self.checkpoint, self.signatures)
        if problem is not None:
            return [Damage(self.tenant, None, problem)]
        match self.checkpoint:
            case Checkpoint(sequence=sequence, hash=hash_) if sequence > self.check.last:
                self.check.begin_after(Head(sequence, hash_))
        return []


def _counts_more(head: StoredHead, check: ChainCheck) -> bool:
    return isinstance(head, Head) and head.sequence > check.last


def _skips_events(page: Sequence[StoredEvent], check: ChainCheck) -> bool:
    """Whether events are missing before the page; also if it is empty."""
    first = page[0].sequence if page else None
    return not page or (first is not None and first > check.last + 1)


def _beyond(position: ChainPosition, page: Sequence[StoredEvent]) -> ChainPosition:
    for stored in page:
        number = stored.sequence
        if number is not None and (position.sequence is None or number > position.sequence):
            position = ChainPosition(number, 1)
        else:
            position = ChainPosition(position.sequence, position.seen + 1)
    return position
