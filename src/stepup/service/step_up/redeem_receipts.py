"""Redeem the receipts of one call, in a transaction that ends after the call is on record."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from stepup.domain import receipts
from stepup.domain.actor import Actor
from stepup.domain.audit import Event, EventKind, written
from stepup.domain.callers import claims_of
from stepup.domain.operations import OperationId
from stepup.domain.receipts import (
    REPEATABLE,
    Binding,
    Receipt,
    ReceiptRejection,
    Redemption,
    RefusedReceipt,
)
from stepup.service.calls.context import Context
from stepup.service.ports import Database, Keys, Records

REDEMPTION_KEPT = timedelta(days=1)
"""How long a used receipt is remembered beyond its window, should the clock be set back."""


class RedeemReceipts:
    """Redeems the receipts of one call, all in one transaction; leaving the block commits it."""

    def __init__(self, database: Database, context: Context) -> None:
        self._database = database
        self.context = context
        self._transaction = AsyncExitStack()
        self._records: Records | None = None
        self._events: list[Event] = []
        self._honoured: list[Receipt] = []

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
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        tenant_id = self.context.actor.tenant_id
        if await records.redemptions.redeem(tenant_id, receipt.decision_id, redemption, forget_at):
            self._events.append(event)
            self._honoured.append(receipt)
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
        earlier = await records.redemptions.find(self.context.actor.tenant_id, receipt.decision_id)
        if earlier is None or not earlier.is_shared_with(again):
            return None
        # Read after the wait for the first call: a revocation that came in meanwhile counts.
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        self._honoured.append(receipt)
        return earlier

    async def are_revoked(self) -> bool:
        """Whether a receipt that was redeemed or shared here has been revoked since (S10).

        It may have been: a redemption waits for other calls with its receipt, and an event for
        other events of the tenant.
        """
        return bool(self._honoured) and await self._is_any_revoked(*self._honoured)

    async def end_unused(self) -> None:
        """End a transaction that has redeemed nothing: what comes next keeps no call waiting."""
        if self._records is not None and not self.are_uncommitted:
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
                self._database.transaction(self.context.actor.tenant_id)
            )
        return self._records

    async def _is_any_revoked(self, *of: Receipt) -> bool:
        records = await self._begin()
        actor = self.context.actor
        revocations = await records.changes.revocations_of(actor.tenant_id, actor.user_id)
        active = await records.authenticators.find(actor.tenant_id, actor.user_id)
        enrollment_id = active.enrollment_id if active else None
        return any(receipt.origin.is_revoked(revocations, enrollment_id) for receipt in of)


class PresentedReceipt:
    """The receipt that one check presents, if any, and the result.

    `redemption` is this check's; after the check was found to be sent again, it is that of the
    first one. `redeemed` or `refused` is set once a receipt was redeemed or refused.
    """

    def __init__(
        self,
        redemptions: RedeemReceipts,
        redemption: Redemption,
        actor: Actor,
        *,
        operation: OperationId,
        target: str,
        retry_window: timedelta,
    ) -> None:
        self._redemptions = redemptions
        self._operation = operation
        self._target = target
        self._window = retry_window
        self.actor = actor
        self.redemption = redemption
        self.redeemed: Receipt | None = None
        self.refused: RefusedReceipt | None = None
        self.is_repeated = False

    @property
    def binding(self) -> Binding:
        """What a receipt of this check holds for."""
        caller = self._redemptions.context.caller
        return Binding.of(caller, self.actor, self._operation, self._target)

    async def redeem(self, keys: Keys) -> ReceiptRejection | None:
        """Redeem the receipt, or share its redemption; returns why it is refused.

        Args:
            keys: the ring that receipts are checked with.

        Raises:
            StoreUnavailableError: it cannot be known whether the receipt was used.
        """
        window = self._window
        token = self.actor.retry_receipt.token if self.actor.retry_receipt else ""
        if self.redemption.request_id is not None:
            window += REPEATABLE  # the first one may have come in time, and its resend too late
        keys.refresh_for(receipts.key_id_of(token))
        receipt = receipts.check(
            token,
            self.binding,
            frozenset(claims_of(self.actor, self._operation)),
            keys.receipts,
            self._redemptions.context.now,
            window=window,
        )
        if isinstance(receipt, RefusedReceipt):
            return self._refuse(receipt)
        redeemed = await self._redeem(receipt)
        if isinstance(redeemed, ReceiptRejection):
            return self._refuse(RefusedReceipt(redeemed, receipt.decision_id))
        self.is_repeated = redeemed is not self.redemption
        self.redemption, self.redeemed = redeemed, receipt
        return None

    async def _redeem(self, receipt: Receipt) -> Redemption | ReceiptRejection:
        redemptions, origin = self._redemptions, receipt.origin
        if not origin.permits_retry(redemptions.context.now, self._window):
            return await redemptions.share(receipt, self.redemption) or ReceiptRejection.EXPIRED
        event = redemptions.context.event(
            EventKind.RECEIPT_REDEEMED,
            decision_id=str(self.redemption.decision_id),
            redeemed_decision_id=str(receipt.decision_id),
            first_authorised_at=written(origin.authorised_at),
            operation=self._operation,
            target=self._target,
        )
        forget_at = origin.authorised_at + self._window + REDEMPTION_KEPT
        return await redemptions.redeem(receipt, self.redemption, event, forget_at)

    def _refuse(self, receipt: RefusedReceipt) -> ReceiptRejection:
        self.refused = receipt
        return receipt.rejection
