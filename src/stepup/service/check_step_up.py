"""`CheckStepUp`: must this person give a one-time code first?"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from stepup.domain import receipts
from stepup.domain.audit import EventKind, Json
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
from stepup.domain.receipts import Binding, Receipt, ReceiptRejection
from stepup.service.context import Context
from stepup.service.elevated import Elevated
from stepup.service.ports import Database, DecisionEntry, DecisionLog, Keys
from stepup.service.snapshots import Snapshots

REDEMPTION_KEPT = timedelta(days=1)
"""How long a used receipt is remembered beyond its window, should the clock be set back."""


@dataclass(frozen=True, slots=True)
class Check:
    """One operation on one target; the target is opaque, and empty when there is none."""

    operation: Operation
    target: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One decision, on record under its id. `receipt` proves it to a later retry."""

    decision_id: UUID
    verdict: Verdict
    policy_etag: str
    receipt: str | None = None


@dataclass(frozen=True, slots=True)
class CheckStepUp:
    """Decides operations of one actor, and puts each decision on record before it is answered."""

    snapshots: Snapshots
    elevated: Elevated
    database: Database
    keys: Keys
    decision_log: DecisionLog
    retry_window: timedelta = receipts.RETRY_WINDOW

    async def __call__(self, context: Context, checks: Sequence[Check]) -> list[Answer]:
        """Decide each check, in order.

        Raises:
            StoreUnavailableError: a fact cannot be known, or a decision cannot be put on record.
        """
        policy = await self.snapshots.policy(context.actor.tenant_id)
        known: dict[Fact[Any], Any] = {}
        answers, entries = [], []
        for check in checks:
            facts = _Facts(self, context, check, known)
            verdict = await facts.settle(
                decide(check.operation, context.actor, policy, context.now)
            )
            decision_id = uuid4()
            receipt = None
            if verdict.earns_receipt:
                receipt = receipts.issue(
                    Receipt(decision_id, facts.first_authorised_at),
                    facts.binding,
                    self.keys.receipts,
                )
            answers.append(Answer(decision_id, verdict, policy.etag, receipt))
            entries.append(_entry(context, check, answers[-1], facts.redeemed))
        await self.decision_log.record(entries)
        return answers


class _Facts:
    """Looks up what the rules ask for: each fact of the actor once, each receipt once a check."""

    def __init__(
        self, use_case: CheckStepUp, context: Context, check: Check, known: dict[Fact[Any], Any]
    ) -> None:
        self._use_case = use_case
        self._context = context
        self._check = check
        self._known = known
        self._look_up: Mapping[Fact[Any], Callable[[], Awaitable[Any]]] = {
            ELEVATION: self._elevation,
            ENROLLED: self._enrolled,
            ACCOUNT_MFA: self._account_mfa,
        }
        self.redeemed: Receipt | None = None

    @property
    def binding(self) -> Binding:
        context, check = self._context, self._check
        return Binding.of(context.caller, context.actor, check.operation.id, check.target)

    @property
    def first_authorised_at(self) -> datetime:
        # The retry of a retry counts from the very first authorisation: a chain of them ends.
        return self.redeemed.first_authorised_at if self.redeemed else self._context.now

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
            self._known[fact] = await self._look_up[fact]()
        return self._known[fact]

    async def _elevation(self) -> Elevation | None:
        return await self._use_case.elevated.find(self._context)

    async def _enrolled(self) -> bool:
        actor = self._context.actor
        async with self._use_case.database.snapshot() as records:
            return await records.authenticators.find(actor.tenant_id, actor.user_id) is not None

    async def _account_mfa(self) -> bool:
        actor = self._context.actor
        async with self._use_case.database.snapshot() as records:
            return await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)

    async def _redemption(self) -> ReceiptRejection | None:
        context, presented = self._context, self._context.actor.retry_receipt
        receipt = receipts.check(
            presented.token if presented else "",
            self.binding,
            self._use_case.keys.receipts,
            context.now,
            self._use_case.retry_window,
        )
        if isinstance(receipt, ReceiptRejection):
            return receipt
        forget_at = receipt.first_authorised_at + self._use_case.retry_window + REDEMPTION_KEPT
        async with self._use_case.database.transaction() as records:
            if not await records.redemptions.redeem(
                context.actor.tenant_id, receipt.decision_id, forget_at
            ):
                return ReceiptRejection.ALREADY_USED
            await records.audit.append(
                context.event(
                    EventKind.RECEIPT_REDEEMED,
                    redeemed_decision_id=str(receipt.decision_id),
                    operation=self._check.operation.id,
                    target=self._check.target,
                )
            )
        self.redeemed = receipt
        return None


def _entry(
    context: Context, check: Check, answer: Answer, redeemed: Receipt | None
) -> DecisionEntry:
    """What an auditor asks of a decision: who asked, for whom, what was claimed and proven."""
    actor, verdict, run = context.actor, answer.verdict, context.actor.playbook_run
    facts: dict[str, Json] = {
        "tenant_id": actor.tenant_id,
        "user_id": actor.user_id,
        "session": actor.session_hash,
        "account_type": actor.account_type.value,
        "team": actor.team.value,
        "operation": check.operation.id,
        "target": check.target,
        "decision": verdict.decision.value,
        "reason": verdict.reason.value,
        "policy_etag": answer.policy_etag,
    }
    if run is not None:
        facts["playbook_run"] = {
            "playbook_id": run.playbook_id,
            "run_id": run.run_id,
            "trigger": run.trigger.value,
        }
    if verdict.elevation is not None:
        facts["elevated_at"] = verdict.elevation.verified_at.isoformat()
        facts["enrollment_id"] = verdict.elevation.enrollment_id
    if redeemed is not None:
        facts["retry_of"] = str(redeemed.decision_id)
    if verdict.receipt_rejection is not None:
        facts["receipt_rejection"] = verdict.receipt_rejection.value
    return DecisionEntry(answer.decision_id, context.now, context.caller, facts)
