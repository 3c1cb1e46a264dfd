"""Redeem the receipts of one call, in a transaction that ends after the call is on record."""

from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import Self

from stepup.domain import receipt_tokens
from stepup.domain.actor import Actor
from stepup.domain.audit import Event, EventKind, written
from stepup.domain.callers import claims_of
from stepup.domain.operations import OperationId
from stepup.domain.receipt_tokens import Binding
from stepup.domain.receipts import (
    REPEATABLE,
    Receipt,
    ReceiptRejection,
    Redeemed,
    Redemption,
    RefusedReceipt,
)
from stepup.service.calls.context import Context
from stepup.service.ports import Database, Keys, Records

REDEMPTION_KEPT = timedelta(days=1)
"""How long a used receipt is remembered beyond its window, should the clock be set back."""


class RevokedMeanwhileError(Exception):
    """A revocation voids an elevation or a receipt that a check of the call rests on."""


class RedeemReceipts:
    """Redeems the receipts of one call, all in one transaction; leaving the block commits it.

    `has_waited` says whether the database was waited for. `is_uncommitted` says whether a receipt
    was redeemed, so that the transaction has to stay open.

    Args:
        retry_window: how long after the first authorisation a retry is still one.
    """

    def __init__(
        self, database: Database, keys: Keys, context: Context, retry_window: timedelta
    ) -> None:
        self._database = database
        self._keys = keys
        self._context = context
        self._window = retry_window
        self._transaction: AsyncExitStack | None = None
        self._records: Records | None = None
        self.has_waited = False
        self.is_uncommitted = False
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
        if self._transaction is not None:
            await self._transaction.__aexit__(kind, error, trace)

    async def __call__(
        self, redemption: Redemption, actor: Actor, operation: OperationId, target: str
    ) -> Redeemed | RefusedReceipt:
        """Use up the receipt that a check presents, or share its first redemption.

        A second call with the same check waits here until the first one has ended.

        Args:
            redemption: the use by this check.
            actor: as the check presents it, with the receipt.
            operation: of the check.
            target: of the check.

        Raises:
            StoreUnavailableError: it cannot be known whether the receipt was used.
        """
        token = actor.retry_receipt.token if actor.retry_receipt else ""
        window = self._window
        if redemption.request_id is not None:
            window += REPEATABLE  # the first one may have come in time, and its resend too late
        self._keys.refresh_for(receipt_tokens.key_id_of(token))
        receipt = receipt_tokens.check(
            token,
            Binding.of(self._context.caller, actor, operation, target),
            frozenset(claims_of(actor, operation)),
            self._keys.receipts,
            self._context.now,
            window=window,
        )
        if isinstance(receipt, RefusedReceipt):
            return receipt
        event = self._context.event(
            EventKind.RECEIPT_REDEEMED,
            decision_id=str(redemption.decision_id),
            redeemed_decision_id=str(receipt.decision_id),
            first_authorised_at=written(receipt.origin.authorised_at),
            operation=operation,
            target=target,
        )
        used = await self._use_up(receipt, redemption, event)
        if isinstance(used, ReceiptRejection):
            return RefusedReceipt(used, receipt.decision_id)
        return Redeemed(receipt, used, is_repeated=used is not redemption)

    async def conclude(self) -> None:
        """Append the events of what was redeemed, after everything else is locked.

        A transaction that has redeemed nothing ends: what comes next keeps no other call waiting.

        Raises:
            RevokedMeanwhileError: a receipt that was redeemed or shared here has been revoked since
                (S10). A redemption waits for other calls with its receipt, and an event for other
                events of the tenant.
        """
        if self._records is not None:
            for event in self._events:
                await self._records.audit.append(event)
        if self._honoured and await self._is_any_revoked(*self._honoured):
            raise RevokedMeanwhileError
        await self.end_unused()

    async def end_unused(self) -> None:
        """End a transaction that has redeemed nothing."""
        if self._transaction is not None and not self.is_uncommitted:
            self._records = None
            await self._transaction.aclose()

    async def _use_up(
        self, receipt: Receipt, redemption: Redemption, event: Event
    ) -> Redemption | ReceiptRejection:
        """Record the use of a receipt, unless it is revoked or was used before.

        Returns:
            `redemption`; or the earlier one, if this is the same check sent again; or why the
            receipt is refused.
        """
        origin = receipt.origin
        if not origin.permits_retry(self._context.now, self._window):
            return await self._share(receipt, redemption) or ReceiptRejection.EXPIRED
        records = await self._begin()
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        if await records.redemptions.redeem(
            self._context.actor.tenant_id,
            receipt.decision_id,
            redemption,
            forget_at=origin.authorised_at + self._window + REDEMPTION_KEPT,
        ):
            self.is_uncommitted = True
            self._events.append(event)
            self._honoured.append(receipt)
            return redemption
        return await self._share(receipt, redemption) or ReceiptRejection.ALREADY_USED

    async def _share(
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
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        self._honoured.append(receipt)
        return earlier

    async def _begin(self) -> Records:
        if self._records is None:
            self.has_waited = True
            self._transaction = AsyncExitStack()
            self._records = await self._transaction.enter_async_context(
                self._database.transaction(self._context.actor.tenant_id)
            )
        return self._records

    async def _is_any_revoked(self, *of: Receipt) -> bool:
        records = await self._begin()
        actor = self._context.actor
        revocations = await records.changes.revocations_of(actor.tenant_id, actor.user_id)
        active = await records.authenticators.find(actor.tenant_id, actor.user_id)
        enrollment_id = active.enrollment_id if active else None
        return any(receipt.origin.is_revoked(revocations, enrollment_id) for receipt in of)
