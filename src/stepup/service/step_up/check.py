"""`CheckStepUp`: must this person give a one-time code first?"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from stepup.domain import receipt_tokens, receipts
from stepup.domain.actor import Actor, RetryReceipt
from stepup.domain.audit import Json, written
from stepup.domain.authenticator import Authenticator
from stepup.domain.callers import Claim
from stepup.domain.decision import Fact, Reason, Verdict, decide
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.not_elevated import NotElevatedDetail, explain_not_elevated
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
from stepup.domain.receipt_tokens import Binding
from stepup.domain.receipts import Receipt, Redeemed, Redemption, RefusedReceipt
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_decision
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, DecisionEntry, DecisionLog, Keys
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.facts import ActorFacts
from stepup.service.step_up.redeem_receipts import RedeemReceipts, RevokedMeanwhileError
from stepup.system.random_ids import random_id


@value
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


@value
class Answer:
    """One decision, on record under its id. `receipt` proves it to a later retry.

    The receipt is as good as the decision, and in no repr (S11). Where the session is not elevated,
    `detail` says why.
    """

    decision_id: UUID
    verdict: Verdict
    policy_etag: str
    receipt: str | None = field(default=None, repr=False)
    detail: NotElevatedDetail | None = None


class _FactNeededError(Exception):
    """A fact is needed that must not be looked up within the transaction."""

    def __init__(self, fact: Fact) -> None:
        super().__init__(fact)
        self.fact = fact


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
        """Decide each check, in order; a retry receipt that a check needs is used up.

        Receipts are used up in one transaction, which commits after the decision log has taken the
        decisions: a log that cannot be written uses up none. If the commit fails, the log has
        decisions that were never answered, and no audit event says that their receipt was redeemed.

        While the transaction is open, nothing but the database and the decision log is waited for:
        on SQLite it keeps every other writer waiting. A fact that is needed after the first
        redemption is looked up after a rollback, and the checks are decided again. So are checks
        that rest on something that was revoked while they waited (S10).

        Args:
            context: the call.
            checks: what to decide.
            request_id: the caller's name for this request. Sent again within a minute with the same
                receipts, each check shares the redemption of the first one (`Redemption`).

        Raises:
            StoreUnavailableError: a fact cannot be known, or a decision cannot be put on record.
        """
        policy = await self.snapshots.policy(context.actor.tenant_id)
        call = _Call(self, context, policy, request_id)
        while True:
            redeem = RedeemReceipts(self.database, self.keys, context, self.retry_window)
            try:
                async with redeem:
                    return await call.answer(checks, redeem)
            except _FactNeededError as needed:
                await call.facts.look_up(needed.fact)
            except RevokedMeanwhileError:
                call.facts.forget()


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

    async def answer(self, checks: Sequence[Check], redeem: RedeemReceipts) -> list[Answer]:
        """Decide and record all checks; `redeem` uses up the receipts that they need.

        Raises:
            _FactNeededError: `redeem` has a transaction open that must not wait for this fact.
            RevokedMeanwhileError: what a decision rests on was revoked meanwhile.
        """
        answers, entries = [], []
        for index, check in enumerate(checks):
            answer, entry = await self._decide(index, check, redeem)
            answers.append(answer)
            entries.append(entry)
        if redeem.has_waited:
            await redeem.conclude()
        self._demand_unrevoked_elevation(has_waited=redeem.has_waited)
        await self._service.decision_log.record(entries)
        for answer in answers:
            count_decision(answer.verdict)
        return answers

    async def _decide(
        self, index: int, check: Check, redeem: RedeemReceipts
    ) -> tuple[Answer, DecisionEntry]:
        context, policy = self._context, self._policy
        actor = check.presented_by(context.actor)
        decision_id = random_id()
        redemption: Redeemed | RefusedReceipt | None = None
        while not isinstance(
            step := decide(
                check.operation, actor, policy, context.now, self.facts.known, redemption=redemption
            ),
            Verdict,
        ):
            if isinstance(step, Fact):
                if redeem.is_uncommitted:
                    raise _FactNeededError(step)
                if redeem.has_waited:
                    await redeem.end_unused()
                await self.facts.look_up(step)
            else:  # the only effect: it uses the receipt up
                redemption = await redeem(
                    Redemption(decision_id, context.now, self._request_id, index),
                    actor,
                    check.operation.id,
                    check.target,
                )
        if isinstance(redemption, Redeemed):
            decision_id = redemption.redemption.decision_id
        receipt = None
        if step.earns_receipt:
            # A retry counts from the very first authorisation: a chain of them ends.
            origin = (
                redemption.receipt.origin
                if isinstance(redemption, Redeemed)
                else step.origin(context.now)
            )
            binding = Binding.of(context.caller, actor, check.operation.id, check.target)
            receipt = receipt_tokens.issue(
                Receipt(decision_id, origin), binding, self._service.keys.receipts
            )
        detail = None
        if step.reason is Reason.NOT_ELEVATED and self.facts.authenticator is not None:
            detail = self._explain(self.facts.authenticator)
        answer = Answer(decision_id, step, policy.etag, receipt, detail)
        return answer, _entry(context, check, actor, answer, redemption)

    def _demand_unrevoked_elevation(self, *, has_waited: bool) -> None:
        """Compare the elevation with the revocations that came in since it was looked up (S10).

        None came in if the look-up, which compares as well, was the last thing waited for.
        """
        elevation = self.facts.known.get("elevation")
        if elevation is None or not (has_waited or len(self.facts.known) > 1):
            return
        if self._service.snapshots.revocations().void(elevation):
            raise RevokedMeanwhileError

    def _explain(self, authenticator: Authenticator) -> NotElevatedDetail | None:
        """Why the session is not elevated, by the facts that the decision has looked up."""
        try:
            return explain_not_elevated(
                authenticator,
                self._context.actor.session_hash,
                self._service.snapshots.revocations(),
                self._context.now,
            )
        except StoreUnavailableError:
            return None


def _entry(
    context: Context,
    check: Check,
    actor: Actor,
    answer: Answer,
    redemption: Redeemed | RefusedReceipt | None,
) -> DecisionEntry:
    """Collect what auditors need of one decision: its claims, their rules, and its proofs."""
    verdict, run = answer.verdict, actor.playbook_run
    grant = context.grants[check.operation.id]
    facts: dict[str, Json] = {
        "request_id": context.request_id,
        "identities": list(context.identities),
        "tenant_id": actor.tenant_id,
        "user_id": actor.user_id,
        "session": actor.session_hash,
        "account_type": actor.account_type,
        "role": actor.role,
        "team": actor.team,
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
            if claim is not Claim.TIMED_OUT_RETRY or actor.retry_receipt is not None
        },
    }
    if run is not None:
        facts["playbook_run"] = {
            "playbook_id": run.playbook_id,
            "run_id": run.run_id,
            "trigger": run.trigger,
        }
    if answer.detail is not None:
        facts["detail"] = answer.detail
    if verdict.elevation is not None:
        facts["elevated_at"] = written(verdict.elevation.verified_at)
        facts["enrollment_id"] = verdict.elevation.enrollment_id
    if isinstance(redemption, Redeemed):
        facts["retry_of"] = str(redemption.receipt.decision_id)
        facts["first_authorised_at"] = written(redemption.receipt.origin.authorised_at)
        if redemption.is_repeated:
            facts["repeated"] = True
    elif redemption is not None:
        facts["receipt_rejection"] = redemption.rejection
        if redemption.decision_id is not None:
            facts["receipt_of"] = str(redemption.decision_id)
    return DecisionEntry(answer.decision_id, context.now, context.caller, facts)
