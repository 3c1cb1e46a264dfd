"""Redeem the receipts of one call."""

from datetime import timedelta

from stepup.domain import receipt_tokens
from stepup.domain.audit import Event, EventKind, written
from stepup.domain.callers import claims_of
from stepup.domain.receipt_tokens import Binding
from stepup.domain.receipts import (
    REPEATABLE,
    Receipt,
    ReceiptRejection,
    Redeemed,
    Redemption,
    RefusedReceipt,
)
from stepup.service.ports import Keys
from stepup.service.step_up.proofs import Presented, Proofs

REDEMPTION_KEPT = timedelta(days=1)
"""How long a used receipt is remembered beyond its window, should the clock be set back."""


class RedeemReceipts:
    """Redeems the receipts of one call, in the transaction of its proofs.

    Args:
        retry_window: how long after the first authorisation a retry is still one.
    """

    def __init__(self, proofs: Proofs, keys: Keys, retry_window: timedelta) -> None:
        self._proofs = proofs
        self._context = proofs.context
        self._keys = keys
        self._window = retry_window
        self._honoured: list[Receipt] = []

    async def __call__(self, presented: Presented) -> Redeemed | RefusedReceipt:
        """Use up the receipt that a check presents, or share its first redemption.

        A second call with the same check waits here until the first one has ended.

        Raises:
            StoreUnavailableError: the database does not say whether the receipt was used.
        """
        actor, operation, target = presented.actor, presented.operation, presented.target
        token = actor.retry_receipt.token if actor.retry_receipt else ""
        window = self._window
        if presented.use.request_id is not None:
            window += REPEATABLE  # a resend may come too late, of a check that came in time
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
            decision_id=str(presented.use.decision_id),
            redeemed_decision_id=str(receipt.decision_id),
            first_authorised_at=written(receipt.origin.authorised_at),
            operation=operation,
            target=target,
        )
        used = await self._use_up(receipt, presented.use, event)
        if isinstance(used, ReceiptRejection):
            return RefusedReceipt(used, receipt.decision_id)
        return Redeemed(receipt, used, is_repeated=used is not presented.use)

    async def is_any_void(self) -> bool:
        """See `Honoured`."""
        return bool(self._honoured) and await self._is_any_revoked(*self._honoured)

    async def _use_up(
        self, receipt: Receipt, use: Redemption, event: Event
    ) -> Redemption | ReceiptRejection:
        """Record the use of a receipt, unless it is revoked or was used before.

        Returns:
            `use`; or the earlier one, if this is the same check sent again; or why the receipt is
            refused.
        """
        origin = receipt.origin
        if not origin.permits_retry(self._context.now, self._window):
            return await self._share(receipt, use) or ReceiptRejection.EXPIRED
        records = await self._proofs.begin()
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        if await records.redemptions.redeem(
            self._context.actor.tenant_id,
            receipt.decision_id,
            use,
            forget_at=origin.authorised_at + self._window + REDEMPTION_KEPT,
        ):
            self._proofs.note_use(event)
            self._honoured.append(receipt)
            return use
        return await self._share(receipt, use) or ReceiptRejection.ALREADY_USED

    async def _share(
        self, receipt: Receipt, again: Redemption
    ) -> Redemption | ReceiptRejection | None:
        """The earlier redemption by the same check, if this check is a resend.

        Returns:
            The redemption; None if the receipt is unused or another check redeemed it; or
            `REVOKED`, if a revocation came in between.
        """
        records = await self._proofs.begin()
        earlier = await records.redemptions.find(self._context.actor.tenant_id, receipt.decision_id)
        if earlier is None or not earlier.is_shared_with(again):
            return None
        # Read after the wait for the first call, so that a revocation during the wait counts.
        if await self._is_any_revoked(receipt):
            return ReceiptRejection.REVOKED
        self._honoured.append(receipt)
        return earlier

    async def _is_any_revoked(self, *of: Receipt) -> bool:
        revocations, enrollment_id = await self._proofs.read_ends()
        return any(receipt.origin.is_revoked(revocations, enrollment_id) for receipt in of)
