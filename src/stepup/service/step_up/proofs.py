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
    """A revocation has voided an elevation or a proof of a check of the call."""


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
        """Whether one of these proofs has been revoked or has ended by now."""
        ...


class Proofs:
    """The transaction in which one call uses up its proofs; leaving the block commits it.

    The transaction begins with the first proof that may be good. `has_waited` says whether the call
    has waited for the database.
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
        """Return the records of the transaction; begin the transaction if it is not open."""
        if self._records is None:
            self.has_waited = True
            self._transaction = AsyncExitStack()
            self._records = await self._transaction.enter_async_context(
                self._database.transaction(self.context.actor.tenant_id)
            )
        return self._records

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[Records]:
        """Read committed records; use the transaction if it is open.

        A call with an open transaction must not wait for a second connection: calls that wait for
        the end of the transaction may hold all connections.
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
            session_hash: a session whose sign-out also counts.

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
        """Append the events of the proofs that the call used up, after all other locks are taken.

        A transaction that has used up nothing ends, so that no other call waits for the rest of
        this call.

        Raises:
            RevokedMeanwhileError: a revocation has voided a proof that this call used or shared
                (S10). It may come while the call waits for another use of the proof, or for other
                events of the tenant.
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
