"""The proofs that the checks of one call use up: receipts, and items of a challenge."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Protocol, Self

from stepup.domain.actor import Actor, SessionHash
from stepup.domain.audit import Event
from stepup.domain.changes import UserRevocations
from stepup.domain.operations import OperationId
from stepup.domain.receipts import Redemption
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.ports import Database, Records


class RevokedMeanwhileError(Exception):
    """A revocation voids an elevation or a proof that a check of the call rests on."""


@value
class Presented:
    """A check that presents a proof: its actor, its action, and the use to record."""

    actor: Actor
    operation: OperationId
    target: str
    use: Redemption


class Honoured(Protocol):
    """The proofs of one kind that the call has used or shared."""

    async def is_any_void(self) -> bool:
        """Whether one of them has been revoked, or has ended, by now."""
        ...


class Proofs:
    """The transaction in which one call uses up its proofs; leaving the block commits it.

    It begins with the first proof that may be good. `has_waited` says whether the database was
    waited for.
    """

    def __init__(self, database: Database, context: Context) -> None:
        self.context = context
        self._database = database
        self._transaction: AsyncExitStack | None = None
        self._records: Records | None = None
        self._events: list[Event] = []
        self.has_waited = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._transaction is not None:
            await self._transaction.__aexit__(kind, error, trace)

    @property
    def is_uncommitted(self) -> bool:
        """Whether a proof was used up, so that the transaction has to stay open."""
        return bool(self._events)

    async def begin(self) -> Records:
        """Return the records of the transaction, which begins if it is not open."""
        if self._records is None:
            self.has_waited = True
            self._transaction = AsyncExitStack()
            self._records = await self._transaction.enter_async_context(
                self._database.transaction(self.context.actor.tenant_id)
            )
        return self._records

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Records]:
        """Read what is committed; within the transaction if it is open.

        An open transaction must not wait for a further connection: other calls may wait for its end
        with all of them.
        """
        if self._records is not None:
            yield self._records
            return
        self.has_waited = True
        async with self._database.snapshot(self.context.actor.tenant_id) as records:
            yield records

    async def read_ends(
        self, session_hash: SessionHash | None = None
    ) -> tuple[UserRevocations, str | None]:
        """Return what can void a proof of the actor (S10).

        Args:
            session_hash: the session whose sign-out counts, too.

        Returns:
            What of the user was revoked, and the id of the user's active enrollment, if any.
        """
        actor = self.context.actor
        async with self.reader() as records:
            revocations = await records.changes.revocations_of(
                actor.tenant_id, actor.user_id, session_hash
            )
            active = await records.authenticators.find(actor.tenant_id, actor.user_id)
        return revocations, active.enrollment_id if active else None

    def note_use(self, event: Event) -> None:
        """Note that the transaction has used up a proof; `conclude` appends the event."""
        self._events.append(event)

    async def conclude(self, *honoured: Honoured) -> None:
        """Append the events of what was used up, after everything else is locked.

        A transaction that has used up nothing ends: what comes next keeps no other call waiting.

        Raises:
            RevokedMeanwhileError: a proof that was used or shared here is void since (S10). A use
                waits for other calls with its proof, and an event for other events of the tenant.
        """
        if self._records is not None:
            for event in self._events:
                await self._records.audit.append(event)
        for proofs in honoured:
            if await proofs.is_any_void():
                raise RevokedMeanwhileError
        await self.end_unused()

    async def end_unused(self) -> None:
        """End a transaction that has used up nothing."""
        if self._transaction is not None and not self.is_uncommitted:
            self._records = None
            await self._transaction.aclose()
