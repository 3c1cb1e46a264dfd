"""`CheckStepUp`: must this person give a one-time code first?"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from stepup.domain import receipts
from stepup.domain.actor import Actor, RetryReceipt
from stepup.domain.audit import EventKind, Json, written
from stepup.domain.callers import Claim, claims_of
from stepup.domain.decision import (
    ACCOUNT_MFA,
    ELEVATION,
    ENROLLED,
    REDEMPTION,
    Deciding,
    Fact,
    Verdict,
    decide,
)
from stepup.domain.elevation import Elevation
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
from stepup.domain.receipts import (
    REPEATABLE,
    Binding,
    Receipt,
    ReceiptRejection,
    Redemption,
    RefusedReceipt,
)
from stepup.service.context import Context
from stepup.service.elevated import Elevated
from stepup.service.ports import Database, DecisionEntry, DecisionLog, Keys
from stepup.service.redeem_receipts import RedeemReceipts
from stepup.service.snapshots import Snapshots
from stepup.service.tallies import count_decision

REDEMPTION_KEPT = timedelta(days=1)
"""How long a used receipt is remembered beyond its window, should the clock be set back."""


@dataclass(frozen=True, slots=True)
class Check:
    """One operation on one target; the target is opaque, and empty when there is none.

    `retry_receipt` is the receipt that this check presents; None stands for that of the actor.
    """

    operation: Operation
    target: str = ""
    retry_receipt: RetryReceipt | None = None

    def presented_by(self, actor: Actor) -> Actor:
        """The actor as this check presents it: with the check's own receipt, if it has one."""
        return (
            actor
            if self.retry_receipt is None
            else replace(actor, retry_receipt=self.retry_receipt)
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision, on record under its id. `receipt` proves it to a later retry.

    It is as good as the decision, and in no repr (S11).
    """

    decision_id: UUID
    verdict: Verdict
    policy_etag: str
    receipt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CheckStepUp:
    """Decides operations of one actor, and puts each decision on record before it is answered."""

    snapshots: Snapshots
    elevated: Elevated
    database: Database
    keys: Keys
    decision_log: DecisionLog
    retry_window: timedelta = receipts.RETRY_WINDOW

    async def __call__(
        self, context: Context, checks: Sequence[Check], request_id: UUID | None = None
    ) -> list[Answer]:
        """Decide each check, in order.

        Receipts are used up in one transaction, which commits after the decision log has taken the
        decisions: a log that cannot be written uses up none. If the commit fails, the log has
        decisions that were never answered, and no audit event says that their receipt was redeemed.

        While the transaction is open, nothing but the database and the decision log is waited for:
        on SQLite it keeps every other writer waiting. So a fact that is needed after the first
        redemption is looked up after a rollback, and the checks are decided anew.

        Args:
            context: the call.
            checks: what to decide.
            request_id: the caller's name for this request. Sent again within a minute with the same
                receipts, each check shares the redemption of the first one (`Redemption`).

        Raises:
            StoreUnavailableError: a fact cannot be known, or a decision cannot be put on record.
        """
        policy = await self.snapshots.policy(context.actor.tenant_id)
        known: dict[Fact[Any], Any] = {}
        while True:
            try:
                return await self._decide_all(context, checks, request_id, policy, known)
            except _FactNeededError as needed:
                known[needed.fact] = await _LOOK_UPS[needed.fact](self, context)

    async def _decide_all(
        self,
        context: Context,
        checks: Sequence[Check],
        request_id: UUID | None,
        policy: Policy,
        known: dict[Fact[Any], Any],
    ) -> list[Answer]:
        circumstances = _circumstances(context)
        answers, entries = [], []
        async with RedeemReceipts(self.database, context) as redemptions:
            for index, check in enumerate(checks):
                redemption = Redemption(uuid4(), context.now, request_id, index)
                facts = _Facts(
                    self, context, check, redemption, known=known, redemptions=redemptions
                )
                verdict = await facts.settle(
                    decide(check.operation, facts.actor, policy, context.now)
                )
                decision_id, receipt = facts.redemption.decision_id, None
                if verdict.earns_receipt:
                    redeemed = facts.redeemed
                    # A retry counts from the very first authorisation: a chain of them ends.
                    origin = redeemed.origin if redeemed else verdict.origin(context.now)
                    receipt = receipts.issue(
                        Receipt(decision_id, origin), facts.binding, self.keys.receipts
                    )
                answers.append(Answer(decision_id, verdict, policy.etag, receipt))
                told = circumstances | _told(context, check, answers[-1], facts)
                entries.append(DecisionEntry(decision_id, context.now, context.caller, told))
            await redemptions.append_events()
            await redemptions.end_unused()
            await self.decision_log.record(entries)
        for answer in answers:
            count_decision(answer.verdict)
        return answers


class _FactNeededError(Exception):
    """A fact is needed that must not be looked up within the transaction."""

    def __init__(self, fact: Fact[Any]) -> None:
        super().__init__(fact)
        self.fact = fact


class _Facts:
    """Looks up what the rules ask for: each fact of the actor once, each receipt once a check.

    `redemption` is this check's; after it was found to be sent again, it is that of the first one.
    """

    def __init__(
        self,
        use_case: CheckStepUp,
        context: Context,
        check: Check,
        redemption: Redemption,
        *,
        known: dict[Fact[Any], Any],
        redemptions: RedeemReceipts,
    ) -> None:
        self._use_case = use_case
        self._context = context
        self._check = check
        self._known = known
        self._redemptions = redemptions
        self.actor = check.presented_by(context.actor)
        self.redemption = redemption
        self.redeemed: Receipt | None = None
        self.refused: RefusedReceipt | None = None
        self.is_repeated = False

    @property
    def binding(self) -> Binding:
        check = self._check
        return Binding.of(self._context.caller, self.actor, check.operation.id, check.target)

    async def settle(self, deciding: Deciding) -> Verdict:
        """Drive a decision to its verdict."""
        try:
            fact = next(deciding)
            while True:
                fact = deciding.send(await self._answer(fact))
        except StopIteration as decided:
            verdict: Verdict = decided.value
            return verdict

    async def _answer(self, fact: Fact[Any]) -> Any:
        if fact is REDEMPTION:
            return await self._redemption()
        if fact not in self._known:
            if self._redemptions.are_uncommitted:
                raise _FactNeededError(fact)
            await self._redemptions.end_unused()
            self._known[fact] = await _LOOK_UPS[fact](self._use_case, self._context)
        return self._known[fact]

    async def _redemption(self) -> ReceiptRejection | None:
        context, presented = self._context, self.actor.retry_receipt
        window = self._use_case.retry_window
        if self.redemption.request_id is not None:
            window += REPEATABLE  # the first one may have come in time, and its resend too late
        receipt = receipts.check(
            presented.token if presented else "",
            self.binding,
            frozenset(claims_of(self.actor, self._check.operation.id)),
            self._use_case.keys.receipts,
            context.now,
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
        check, origin, window = self._check, receipt.origin, self._use_case.retry_window
        if not origin.permits_retry(self._context.now, window):
            return (
                await self._redemptions.share(receipt, self.redemption) or ReceiptRejection.EXPIRED
            )
        event = self._context.event(
            EventKind.RECEIPT_REDEEMED,
            decision_id=str(self.redemption.decision_id),
            redeemed_decision_id=str(receipt.decision_id),
            first_authorised_at=written(origin.authorised_at),
            operation=check.operation.id,
            target=check.target,
        )
        forget_at = origin.authorised_at + window + REDEMPTION_KEPT
        return await self._redemptions.redeem(receipt, self.redemption, event, forget_at)

    def _refuse(self, receipt: RefusedReceipt) -> ReceiptRejection:
        self.refused = receipt
        return receipt.rejection


def _elevation(use_case: CheckStepUp, context: Context) -> Awaitable[Elevation | None]:
    return use_case.elevated.find(context)


async def _enrolled(use_case: CheckStepUp, context: Context) -> bool:
    actor = context.actor
    async with use_case.database.snapshot() as records:
        return await records.authenticators.find(actor.tenant_id, actor.user_id) is not None


async def _account_mfa(use_case: CheckStepUp, context: Context) -> bool:
    actor = context.actor
    async with use_case.database.snapshot() as records:
        return await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)


_LOOK_UPS: Mapping[Fact[Any], Callable[[CheckStepUp, Context], Awaitable[Any]]] = {
    ELEVATION: _elevation,
    ENROLLED: _enrolled,
    ACCOUNT_MFA: _account_mfa,
}


def _circumstances(context: Context) -> dict[str, Json]:
    """What is the same for all decisions of a call: who asked, what proved it, and for whom."""
    actor, run = context.actor, context.actor.playbook_run
    told: dict[str, Json] = {
        "request_id": context.request_id,
        "identities": list(context.identities),
        "tenant_id": actor.tenant_id,
        "user_id": actor.user_id,
        "session": actor.session_hash,
        "account_type": actor.account_type,
        "role": actor.role,
        "team": actor.team,
    }
    if run is not None:
        told["playbook_run"] = {
            "playbook_id": run.playbook_id,
            "run_id": run.run_id,
            "trigger": run.trigger,
        }
    return told


def _told(context: Context, check: Check, answer: Answer, facts: _Facts) -> dict[str, Json]:
    """What an auditor asks of one decision: what was claimed, who may claim it, what proved it."""
    verdict, grant = answer.verdict, context.grants[check.operation.id]
    redeemed, refused = facts.redeemed, facts.refused
    told: dict[str, Json] = {
        "operation": check.operation.id,
        "target": check.target,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "policy_etag": answer.policy_etag,
        "granted_by": grant.rule.origin,
        "claims": {
            claim.value: rule.origin
            for claim, rule in grant.claims.items()
            # Of a batch, another check of the operation may have asserted it.
            if claim is not Claim.TIMED_OUT_RETRY or facts.actor.retry_receipt is not None
        },
    }
    if verdict.elevation is not None:
        told["elevated_at"] = written(verdict.elevation.verified_at)
        told["enrollment_id"] = verdict.elevation.enrollment_id
    if redeemed is not None:
        told["retry_of"] = str(redeemed.decision_id)
        told["first_authorised_at"] = written(redeemed.origin.authorised_at)
    if facts.is_repeated:
        told["repeated"] = True
    if refused is not None:
        told["receipt_rejection"] = refused.rejection
        if refused.decision_id is not None:
            told["receipt_of"] = str(refused.decision_id)
    return told
