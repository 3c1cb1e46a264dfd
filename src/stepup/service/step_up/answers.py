"""The answer to a check, and its line in the decision log."""

from collections.abc import Mapping
from dataclasses import field
from uuid import UUID

from stepup.domain.audit import Json, written
from stepup.domain.callers import Claim
from stepup.domain.decision import Verdict
from stepup.domain.item_use import RefusedChallenge, UsedItem
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.receipts import Redeemed, RefusedReceipt
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.ports import DecisionEntry
from stepup.service.step_up.proofs import Presented


@value
class Answer:
    """One decision, recorded under its id. `receipt` proves the decision to a later retry.

    A receipt can allow an action, so no repr shows it (S11). `detail` says why the session is not
    elevated, if it is not.
    """

    decision_id: UUID
    verdict: Verdict
    policy_etag: str
    receipt: str | None = field(default=None, repr=False)
    detail: NotElevatedDetail | None = None


def entry(
    context: Context,
    presented: Presented,
    answer: Answer,
    redemption: Redeemed | RefusedReceipt | None,
    use_of_item: UsedItem | RefusedChallenge | None,
) -> DecisionEntry:
    """The line of one decision: its claims, the rules that permit them, and its proofs."""
    actor, verdict, run = presented.actor, answer.verdict, presented.actor.playbook_run
    grant = context.grants[presented.operation]
    facts: dict[str, Json] = {
        "request_id": context.request_id,
        "identities": list(context.identities),
        "tenant_id": actor.tenant_id,
        "user_id": actor.user_id,
        "session": actor.session_hash,
        "account_type": actor.account_type,
        "role": actor.role,
        "team": actor.team,
        "operation": presented.operation,
        "target": presented.target,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "policy_etag": answer.policy_etag,
        "granted_by": grant.rule.origin,
        "claims": {
            claim.value: rule.origin
            for claim, rule in grant.claims.items()
            # Another check of the batch may have asserted this claim for the same operation.
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
    if verdict.enroll_by is not None:
        facts["enroll_by"] = written(verdict.enroll_by)
    if redemption is not None:
        facts |= _of_receipt(redemption)
    if use_of_item is not None:
        facts["challenge_id"] = str(actor.challenge_id)
        facts |= _of_challenge(use_of_item)
    return DecisionEntry(answer.decision_id, context.now, context.caller, facts)


def _of_receipt(redemption: Redeemed | RefusedReceipt) -> Mapping[str, Json]:
    facts: dict[str, Json] = {}
    if isinstance(redemption, Redeemed):
        facts["retry_of"] = str(redemption.receipt.decision_id)
        facts["first_authorised_at"] = written(redemption.origin.authorised_at)
        if redemption.is_repeated:
            facts["repeated"] = True
        return facts
    facts["receipt_rejection"] = redemption.rejection
    if redemption.decision_id is not None:
        facts["receipt_of"] = str(redemption.decision_id)
    return facts


def _of_challenge(use_of_item: UsedItem | RefusedChallenge) -> Mapping[str, Json]:
    facts: dict[str, Json] = {}
    if isinstance(use_of_item, UsedItem):
        approval = use_of_item.approval
        facts["approved_at"] = written(approval.verified_at)
        facts["enrollment_id"] = approval.enrollment_id
        if use_of_item.is_repeated:
            facts["repeated"] = True
        return facts
    facts["challenge_rejection"] = use_of_item.rejection
    if use_of_item.stranger is not None:
        facts["challenge_stranger"] = use_of_item.stranger
    return facts
