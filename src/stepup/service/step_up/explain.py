"""`ExplainStepUp`: which rule would decide a check, and why no earlier rule would."""

from dataclasses import dataclass
from typing import Final

from stepup.domain.actor import Actor
from stepup.domain.decision import Verdict
from stepup.domain.errors import InvalidFieldError
from stepup.domain.explained_rules import Explained, ExplainedRule
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.receipts import Redemption
from stepup.domain.values import value
from stepup.service.calls.context import AnyContext, Context
from stepup.service.people.operator_reads import record_operator_read
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database
from stepup.service.step_up.check import Check
from stepup.service.step_up.elevated import Elevated
from stepup.service.step_up.facts import ActorFacts
from stepup.service.step_up.proofs import Presented, Proofs
from stepup.service.step_up.use_items import UseItems
from stepup.system.random_ids import random_id

_METHOD: Final = "StepUpService/ExplainStepUp"


@value
class Explanation:
    """The verdict that a check would get now, and its rules; `detail` is that of an `Answer`."""

    verdict: Verdict
    rules: tuple[ExplainedRule, ...]
    policy_etag: str
    detail: NotElevatedDetail | None


@dataclass(frozen=True, slots=True)
class ExplainStepUp:
    """Explains a check of a subject by the facts that the check would use. Nothing is used up."""

    snapshots: Snapshots
    elevated: Elevated
    database: Database

    async def __call__(self, context: AnyContext, subject: Actor, check: Check) -> Explanation:
        """Explain a check that the caller would make now; the decision log gets no line.

        Args:
            context: the call of the subject, of a Master Administrator or of an operator.
            subject: the person of the check. The caller needs no permission for the claims of the
                subject, because nothing is allowed.
            check: the check, without a receipt.

        Raises:
            InvalidFieldError: the subject belongs to another tenant.
            RoleRequiredError: the actor is neither the subject nor a Master Administrator.
            StoreUnavailableError: a fact cannot be looked up, or the read by an operator cannot be
                recorded.
        """
        if subject.tenant_id != context.tenant_id:
            raise InvalidFieldError("subject.tenant_id", "must be the tenant of the actor")
        if isinstance(context, Context) and context.actor.user_id != subject.user_id:
            context.actor.require_master_administrator()
        await record_operator_read(self.database, context, _METHOD, subject.user_id)
        checking = Context(
            context.caller,
            subject,
            context.now,
            context.request_id,
            context.identities,
            context.grants,
        )
        policy = await self.snapshots.policy(subject.tenant_id)
        facts = ActorFacts(self.elevated, self.database, checking)
        use_of_item = None
        if subject.challenge_id is not None:
            use = Redemption(random_id(), context.now)
            presented = Presented(subject, check.operation.id, check.target, use)
            use_of_item = await UseItems(Proofs(self.database, checking)).preview(presented)
        verdict = await facts.decide_without_use(check.operation, policy, use_of_item)
        explained = Explained(check.operation, subject, policy, context.now, facts.known, verdict)
        return Explanation(verdict, explained.rules(), policy.etag, facts.detail_of(verdict))
