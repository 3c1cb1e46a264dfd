"""`CheckStepUp`: must this person give a one-time code first?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from stepup.domain import receipt_tokens, receipts
from stepup.domain.actor import Actor, RetryReceipt
from stepup.domain.decision import Effect, Fact, Verdict, decide
from stepup.domain.item_use import RefusedChallenge, UsedItem
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
from stepup.domain.receipt_tokens import Binding
from stepup.domain.receipts import Receipt, Redeemed, Redemption, RefusedReceipt
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_decision
from stepup.service.people.asked import AskedRecorder
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, DecisionEntry, DecisionLog, Keys
from stepup.service.step_up.answers import Answer, entry
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.facts import ActorFacts
from stepup.service.step_up.proofs import Presented, Proofs, RevokedMeanwhileError
from stepup.service.step_up.redeem_receipts import RedeemReceipts
from stepup.service.step_up.use_items import UseItems
from stepup.system.random_ids import random_id


@value
class Check:
    """One operation on one target. The target is opaque, and empty for an action without a target.

    `retry_receipt` is the receipt that this check presents; None means the receipt of the actor.
    """

    operation: Operation
    target: str = ""
    retry_receipt: RetryReceipt | None = None

    def presented_by(self, actor: Actor) -> Actor:
        """The actor with the receipt of this check, if the check has a receipt."""
        return (
            actor
            if self.retry_receipt is None
            else replace(actor, retry_receipt=self.retry_receipt)
        )


class _FactNeededError(Exception):
    """A check needs a fact that the call must not look up within the transaction."""

    def __init__(self, fact: Fact) -> None:
        super().__init__(fact)
        self.fact = fact


@dataclass(frozen=True, slots=True)
class CheckStepUp:
    """Decides operations of one actor, and records each decision before the answer."""

    snapshots: Snapshots
    elevated: Elevated
    database: Database
    keys: Keys
    decision_log: DecisionLog
    asked: AskedRecorder
    retry_window: timedelta = receipts.RETRY_WINDOW

    async def __call__(
        self, context: Context, checks: Sequence[Check], request_id: UUID | None = None
    ) -> list[Answer]:
        """Decide each check, in order; use up the receipts and items that the checks need.

        One transaction uses them up, and commits after the decision log has taken the decisions. If
        the log cannot be written, the call uses up nothing. If the commit fails, the log has
        decisions that the client never got, and no audit event has the use of their proof.

        While the transaction is open, the call waits only for the database and the decision log,
        because on SQLite every other writer waits for the transaction. If a check needs a fact
        after the first use, the call rolls back, looks the fact up, and decides all checks again.
        The call also does so after a revocation of an elevation or a proof of a check (S10).

        Args:
            context: the call.
            checks: what to decide.
            request_id: the caller's name for this request. If the caller sends the request again
                within a minute, with the same receipts and challenge, each check shares the use by
                the first request (`Redemption`).

        Raises:
            StoreUnavailableError: a fact cannot be looked up, or a decision cannot be recorded.
        """
        policy = await self.snapshots.policy(context.actor.tenant_id)
        call = _Call(self, context, policy, request_id)
        while True:
            try:
                async with Proofs(self.database, context) as proofs:
                    return await call.answer(checks, proofs)
            except _FactNeededError as needed:
                await call.facts.look_up(needed.fact)
            except RevokedMeanwhileError:
                call.facts.forget()


@dataclass(frozen=True, slots=True)
class _Effects:
    """The uses of proofs, which write while a call decides its checks, in one transaction."""

    proofs: Proofs
    redeem: RedeemReceipts
    use_item: UseItems


class _Call:
    """The decisions of one call, and the facts that they share."""

    def __init__(
        self, service: CheckStepUp, context: Context, policy: Policy, request_id: UUID | None
    ) -> None:
        self._service = service
        self._context = context
        self._policy = policy
        self._request_id = request_id
        self.facts = ActorFacts(service.elevated, service.database, context)

    async def answer(self, checks: Sequence[Check], proofs: Proofs) -> list[Answer]:
        """Decide and record all checks; use up the proofs that the checks need.

        Raises:
            _FactNeededError: the open transaction must not wait for this fact.
            RevokedMeanwhileError: a revocation voids an elevation or a proof of a decision.
        """
        effects = _Effects(
            proofs,
            RedeemReceipts(proofs, self._service.keys, self._service.retry_window),
            UseItems(proofs),
        )
        answers, entries = [], []
        for index, check in enumerate(checks):
            answer, line = await self._decide(index, check, effects)
            answers.append(answer)
            entries.append(line)
        if proofs.has_waited:
            await proofs.conclude(effects.redeem, effects.use_item)
        self._demand_unrevoked_elevation(has_waited=proofs.has_waited)
        await self._service.decision_log.record(entries)
        for answer in answers:
            count_decision(answer.verdict)
        self._service.asked.note(self._context, [answer.verdict for answer in answers])
        return answers

    async def _decide(
        self, index: int, check: Check, effects: _Effects
    ) -> tuple[Answer, DecisionEntry]:
        context, policy = self._context, self._policy
        presented = Presented(
            check.presented_by(context.actor),
            check.operation.id,
            check.target,
            Redemption(random_id(), context.now, self._request_id, index),
        )
        redemption: Redeemed | RefusedReceipt | None = None
        use_of_item: UsedItem | RefusedChallenge | None = None
        while not isinstance(
            step := decide(
                check.operation,
                presented.actor,
                policy,
                context.now,
                self.facts.known,
                redemption=redemption,
                use_of_item=use_of_item,
            ),
            Verdict,
        ):
            if isinstance(step, Fact):
                await self._look_up(step, effects.proofs)
            elif step is Effect.REDEMPTION:
                redemption = await effects.redeem(presented)
            else:
                use_of_item = await effects.use_item(presented)
        answer = self._answer(presented, step, _used(redemption, use_of_item))
        return answer, entry(context, presented, answer, redemption, use_of_item)

    async def _look_up(self, fact: Fact, proofs: Proofs) -> None:
        if proofs.is_uncommitted:
            raise _FactNeededError(fact)
        await proofs.end_unused()
        await self.facts.look_up(fact)

    def _answer(
        self, presented: Presented, verdict: Verdict, used: Redeemed | UsedItem | None
    ) -> Answer:
        """The answer for a verdict. A shared proof has the decision id of its first use."""
        decision_id = (used or presented).use.decision_id
        receipt = None
        if verdict.earns_receipt:
            origin = used.origin if used else verdict.origin(self._context.now)
            binding = Binding.of(
                self._context.caller, presented.actor, presented.operation, presented.target
            )
            receipt = receipt_tokens.issue(
                Receipt(decision_id, origin), binding, self._service.keys.receipts
            )
        detail = self.facts.detail_of(verdict)
        return Answer(decision_id, verdict, self._policy.etag, receipt, detail)

    def _demand_unrevoked_elevation(self, *, has_waited: bool) -> None:
        """Compare the elevation with the revocations since its look-up (S10).

        The look-up compares them as well. So no comparison is needed if the call has waited for
        nothing since.
        """
        elevation = self.facts.known.get("elevation")
        if elevation is None or not (has_waited or len(self.facts.known) > 1):
            return
        if self._service.snapshots.revocations().void(elevation):
            raise RevokedMeanwhileError


def _used(
    redemption: Redeemed | RefusedReceipt | None, use_of_item: UsedItem | RefusedChallenge | None
) -> Redeemed | UsedItem | None:
    """The proof that allowed the action; None if no proof did."""
    if isinstance(redemption, Redeemed):
        return redemption
    return use_of_item if isinstance(use_of_item, UsedItem) else None
