"""Redeem the receipts of one call, in a transaction that ends after the call is on record."""

from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Self

from stepup.domain.audit import Event
from stepup.domain.receipts import Receipt, ReceiptRejection
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
        """Whether a receipt was redeemed, so that the transaction is open and other calls wait."""
        return self._records is not None

    async def redeem(
        self, receipt: Receipt, event: Event, forget_at: datetime
    ) -> ReceiptRejection | None:
        """Use a receipt up, unless it is revoked or was used before; returns why it is refused."""
        if self._records is None:
            self._records = await self._transaction.enter_async_context(
                self._database.transaction()
            )
        rejection = await self._rejection(self._records, receipt, forget_at)
        if rejection is None:
            self._events.append(event)
        elif not self._events:
            # Nothing was written: what the next rules look up must not keep other calls waiting.
            self._records = None
            await self._transaction.aclose()
        return rejection

    async def append_events(self) -> None:
        """Append the events of what was redeemed, after everything else is locked."""
        if self._records is not None:
            for event in self._events:
                await self._records.audit.append(event)

    async def _rejection(
        self, records: Records, receipt: Receipt, forget_at: datetime
    ) -> ReceiptRejection | None:
        tenant_id, user_id = self._context.actor.tenant_id, self._context.actor.user_id
        if receipt.origin.is_revoked(await records.changes.revocations_of(tenant_id, user_id)):
            return ReceiptRejection.REVOKED
        if not await records.redemptions.redeem(tenant_id, receipt.decision_id, forget_at):
            return ReceiptRejection.ALREADY_USED
        return None
