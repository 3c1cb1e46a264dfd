"""Redeem the receipts of one call, in a transaction that ends after the call is on record."""

from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Self

from stepup.domain.audit import Event
from stepup.domain.receipts import Receipt, ReceiptRejection, Redemption
from stepup.service.context import Context
from stepup.service.ports import Database, Records


class RedeemReceipts:
    """Redeems the receipts of one call, all in one transaction; leaving the block commits it."""

    def __init__(self, database: Database, context: Context) -> None:
        self._database = database
        self._context = context
        self._transaction = AsyncExitStack()
        self._records: Records | None = None
        self._events: list[Event] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transaction.__aexit__(kind, error, trace)

    @property
    def are_uncommitted(self) -> bool:
        """Whether a receipt was redeemed, so that the transaction has to stay open."""
        return bool(self._events)

    async def redeem(
        self, receipt: Receipt, redemption: Redemption, event: Event, forget_at: datetime
    ) -> Redemption | ReceiptRejection:
        """Use a receipt up, unless it is revoked or was used before.

        A second call with the same check waits here until the first one has ended.

        Returns:
            `redemption`; or the earlier one, if this is the same check sent again (`share`); or why
            the receipt is refused.
        """
        records = await self._begin()
        if await self._is_revoked(records, receipt):
            return ReceiptRejection.REVOKED
        tenant_id = self._context.actor.tenant_id
        if await records.redemptions.redeem(tenant_id, receipt.decision_id, redemption, forget_at):
            self._events.append(event)
            return redemption
        return await self.share(receipt, redemption) or ReceiptRejection.ALREADY_USED

    async def share(
        self, receipt: Receipt, again: Redemption
    ) -> Redemption | ReceiptRejection | None:
        """The redemption of the same check, if this one was sent again because its answer got lost.

        Returns:
            The earlier redemption; None if it is of another check, or there is none; or `REVOKED`,
            if a revocation came in between.
        """
        records = await self._begin()
        earlier = await records.redemptions.find(self._context.actor.tenant_id, receipt.decision_id)
        if earlier is None or not earlier.is_shared_with(again):
            return None
        # Read after the wait for the first call: a revocation that came in meanwhile counts.
        if await self._is_revoked(records, receipt):
            return ReceiptRejection.REVOKED
        return earlier

    async def end_unused(self) -> None:
        """End a transaction that has redeemed nothing: what comes next keeps no call waiting."""
        if not self.are_uncommitted:
            self._records = None
            await self._transaction.aclose()

    async def append_events(self) -> None:
        """Append the events of what was redeemed, after everything else is locked."""
        if self._records is not None:
            for event in self._events:
                await self._records.audit.append(event)

    async def _begin(self) -> Records:
        if self._records is None:
            self._records = await self._transaction.enter_async_context(
                self._database.transaction()
            )
        return self._records

    async def _is_revoked(self, records: Records, receipt: Receipt) -> bool:
        actor = self._context.actor
        revocations = await records.changes.revocations_of(actor.tenant_id, actor.user_id)
        return receipt.origin.is_revoked(revocations)
