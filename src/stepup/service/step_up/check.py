"""`CheckStepUp`: must this person give a one-time code first?"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from stepup.domain import receipts
from stepup.domain.actor import Actor, RetryReceipt
from stepup.domain.audit import Json, written
from stepup.domain.authenticator import Authenticator
from stepup.domain.callers import Claim
from stepup.domain.decision import (
    ACCOUNT_MFA,
    ELEVATION,
    ENROLLED,
    REDEMPTION,
    Deciding,
    Fact,
    Reason,
    Verdict,
    decide,
)
from stepup.domain.elevation import Elevation
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.not_elevated import NotElevatedDetail, explain_not_elevated
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
from stepup.domain.receipts import Receipt, Redemption
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_decision
from stepup.service.enrollment.get import find_active
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, DecisionEntry, DecisionLog, Keys
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.redeem_receipts import PresentedReceipt, RedeemReceipts
from stepup.system.random_ids import random_id


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

    The receipt is as good as the decision, and in no repr (S11). `detail` is why the session is not
    elevated, where that is the reason.
    """

    decision_id: UUID
    verdict: Verdict
    policy_etag: str
    receipt: str | None = field(default=None, repr=False)
    detail: NotElevatedDetail | None = None


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
        redemption is looked up after a rollback, and the checks are decided anew. So they are after
        a revocation of something that they rest on, which came in while they waited (S10).

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
            except _RevokedMeanwhileError:
                known.clear()

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
                presented = PresentedReceipt(
                    redemptions,
                    Redemption(random_id(), context.now, request_id, index),
                    check.presented_by(context.actor),
                    operation=check.operation.id,
                    target=check.target,
                    retry_window=self.retry_window,
                )
                facts = _Facts(self, context, presented, known=known, redemptions=redemptions)
                verdict = await facts.settle(
                    decide(check.operation, presented.actor, policy, context.now)
                )
                decision_id, receipt = presented.redemption.decision_id, None
                if verdict.earns_receipt:
                    redeemed = presented.redeemed
                    # A retry counts from the very first authorisation: a chain of them ends.
                    origin = redeemed.origin if redeemed else verdict.origin(context.now)
                    receipt = receipts.issue(
                        Receipt(decision_id, origin), presented.binding, self.keys.receipts
                    )
                detail = self._detail(context, verdict, known)
                answers.append(Answer(decision_id, verdict, policy.etag, receipt, detail))
                told = circumstances | _told(context, check, answers[-1], presented)
                entries.append(DecisionEntry(decision_id, context.now, context.caller, told))
            await redemptions.append_events()
            elevation = known.get(ELEVATION)
            if await redemptions.are_revoked() or (
                elevation is not None and self.snapshots.revocations().void(elevation)
            ):
                raise _RevokedMeanwhileError
            await redemptions.end_unused()
            await self.decision_log.record(entries)
        for answer in answers:
            count_decision(answer.verdict)
        return answers

    def _detail(
        self, context: Context, verdict: Verdict, known: Mapping[Fact[Any], Any]
    ) -> NotElevatedDetail | None:
        """Why the session is not elevated, by what the decision has looked up anyway."""
        if verdict.reason is not Reason.NOT_ELEVATED:
            return None
        try:
            return explain_not_elevated(
                known[_AUTHENTICATOR],
                context.actor.session_hash,
                self.snapshots.revocations(),
                context.now,
            )
        except StoreUnavailableError:
            return None


_AUTHENTICATOR = Fact[Authenticator | None]("AUTHENTICATOR")
"""What ENROLLED is known by; its codes also say why a session is not elevated."""


class _FactNeededError(Exception):
    """A fact is needed that must not be looked up within the transaction."""

    def __init__(self, fact: Fact[Any]) -> None:
        super().__init__(fact)
        self.fact = fact


class _RevokedMeanwhileError(Exception):
    """A revocation voids an elevation or a receipt that a check of the call rests on."""


class _Facts:
    """Looks up what the rules ask for: each fact of the actor once, each receipt once a check."""

    def __init__(
        self,
        use_case: CheckStepUp,
        context: Context,
        receipt: PresentedReceipt,
        *,
        known: dict[Fact[Any], Any],
        redemptions: RedeemReceipts,
    ) -> None:
        self._use_case = use_case
        self._context = context
        self._receipt = receipt
        self._known = known
        self._redemptions = redemptions

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
            return await self._receipt.redeem(self._use_case.keys)
        if fact is ENROLLED:
            return await self._known_or_looked_up(_AUTHENTICATOR) is not None
        return await self._known_or_looked_up(fact)

    async def _known_or_looked_up(self, fact: Fact[Any]) -> Any:
        if fact not in self._known:
            if self._redemptions.are_uncommitted:
                raise _FactNeededError(fact)
            await self._redemptions.end_unused()
            self._known[fact] = await _LOOK_UPS[fact](self._use_case, self._context)
        return self._known[fact]


def _elevation(use_case: CheckStepUp, context: Context) -> Awaitable[Elevation | None]:
    return use_case.elevated.find(context)


def _authenticator(use_case: CheckStepUp, context: Context) -> Awaitable[Authenticator | None]:
    return find_active(use_case.database, context)


async def _account_mfa(use_case: CheckStepUp, context: Context) -> bool:
    actor = context.actor
    async with use_case.database.snapshot(actor.tenant_id) as records:
        return await records.accounts.mfa_enabled(actor.tenant_id, actor.user_id)


_LOOK_UPS: Mapping[Fact[Any], Callable[[CheckStepUp, Context], Awaitable[Any]]] = {
    ELEVATION: _elevation,
    _AUTHENTICATOR: _authenticator,
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


def _told(
    context: Context, check: Check, answer: Answer, presented: PresentedReceipt
) -> dict[str, Json]:
    """What an auditor asks of one decision: what was claimed, who may claim it, what proved it."""
    verdict, grant = answer.verdict, context.grants[check.operation.id]
    redeemed, refused = presented.redeemed, presented.refused
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
            if claim is not Claim.TIMED_OUT_RETRY or presented.actor.retry_receipt is not None
        },
    }
    if answer.detail is not None:
        told["detail"] = answer.detail
    if verdict.elevation is not None:
        told["elevated_at"] = written(verdict.elevation.verified_at)
        told["enrollment_id"] = verdict.elevation.enrollment_id
    if redeemed is not None:
        told["retry_of"] = str(redeemed.decision_id)
        told["first_authorised_at"] = written(redeemed.origin.authorised_at)
    if presented.is_repeated:
        told["repeated"] = True
    if refused is not None:
        told["receipt_rejection"] = refused.rejection
        if refused.decision_id is not None:
            told["receipt_of"] = str(refused.decision_id)
    return told
