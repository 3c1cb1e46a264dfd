"""The decision: product.md's rules, top to bottom.

Some rules need a fact from a store, which costs time, or the use of a receipt or of a challenge's
item, which writes.
`decide` asks for either only when no earlier rule has decided. The caller of `decide` does the I/O;
the order of the rules stands here and nowhere else.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum, unique
from typing import TypeAlias, TypedDict

from stepup.domain.actor import Actor
from stepup.domain.callers import Claim
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.item_use import ChallengeRejection, RefusedChallenge, UsedItem
from stepup.domain.operations import SIGN_IN, Operation
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.receipts import Origin, ReceiptRejection, Redeemed, RefusedReceipt
from stepup.domain.values import value


@unique
class Fact(Enum):
    """What a rule may need to know from a store. To look a fact up changes nothing."""

    ELEVATION = "elevation"
    ENROLLED = "enrolled"
    ACCOUNT_MFA = "account_mfa"
    EVER_ENROLLED = "ever_enrolled"


class Facts(TypedDict, total=False):
    """The facts that have been looked up: each has the name of its `Fact`.

    `elevation` is the session's, and None where a revocation has voided it. `enrolled` says whether
    the user has an active authenticator, and `account_mfa` whether the user has turned MFA on for
    their own account. `ever_enrolled` says whether the user has or ever had an authenticator in
    this tenant.
    """

    elevation: Elevation | None
    enrolled: bool
    account_mfa: bool
    ever_enrolled: bool


@unique
class Effect(Enum):
    """A write that a rule needs before it can decide, once for each check."""

    REDEMPTION = "redemption"
    """Use up the actor's retry receipt, or refuse the receipt."""
    USE_OF_ITEM = "use_of_item"
    """Use up an item of the actor's challenge, or refuse the challenge."""


@unique
class Decision(StrEnum):
    """Whether the action may run."""

    ALLOWED = "allowed"
    STEP_UP_REQUIRED = "step_up_required"
    ENROLLMENT_REQUIRED = "enrollment_required"


@unique
class Reason(StrEnum):
    """The rule that decided."""

    MFA_NOT_ENABLED = "mfa_not_enabled"
    OPERATION_NOT_SELECTED = "operation_not_selected"
    EXEMPT_MANAGED_SERVICES = "exempt_managed_services"
    EXEMPT_AUTOMATIC_PLAYBOOK = "exempt_automatic_playbook"
    EXEMPT_TIMED_OUT_RETRY = "exempt_timed_out_retry"
    ELEVATED = "elevated"
    SIGN_IN_NOT_SUPPORTED_FOR_SAML = "sign_in_not_supported_for_saml"
    NOT_ENROLLED = "not_enrolled"
    NOT_ELEVATED = "not_elevated"
    ELEVATION_TOO_OLD = "elevation_too_old"
    CHALLENGE_APPROVED = "challenge_approved"
    EVERY_TIME = "every_time"
    ENROLLMENT_GRACE = "enrollment_grace"


@value
class Verdict:
    """The decision with its reason.

    If the decision requires a step-up, `max_age` is how old the elevation may be, or
    `needs_challenge` says that no elevation counts. `earns_receipt` says that the policy selects
    the operation, and that the action is allowed all the same. `enroll_by` is the end of the
    person's time to enrol, if that allows the action.
    """

    decision: Decision
    reason: Reason
    elevation: Elevation | None = None
    max_age: timedelta | None = None
    receipt_rejection: ReceiptRejection | None = None
    earns_receipt: bool = False
    challenge_rejection: ChallengeRejection | None = None
    needs_challenge: bool = False
    enroll_by: datetime | None = None

    def origin(self, now: datetime) -> Origin:
        """The origin of the decision's receipt, if the check used up neither receipt nor item."""
        if self.elevation is not None:
            return Origin.of_elevation(self.elevation, now)
        return Origin.of_exemption(_EXEMPTIONS[self.reason], now)


_EXEMPTIONS = {
    Reason.EXEMPT_MANAGED_SERVICES: Claim.MANAGED_SERVICES,
    Reason.EXEMPT_AUTOMATIC_PLAYBOOK: Claim.AUTOMATIC_PLAYBOOK,
}

Step: TypeAlias = Verdict | Fact | Effect
"""A verdict, or what is needed before the next rule can decide."""


def decide(
    operation: Operation,
    actor: Actor,
    policy: Policy,
    now: datetime,
    facts: Facts,
    *,
    redemption: Redeemed | RefusedReceipt | None = None,
    use_of_item: UsedItem | RefusedChallenge | None = None,
) -> Step:
    """Decide one operation by the first rule that matches.

    Call it again with what it asks for until it returns a verdict.

    Args:
        operation: what the actor wants to do.
        actor: for whom.
        policy: of the actor's tenant.
        now: when the check was received.
        facts: what has been looked up so far.
        redemption: the result of the redemption of the retry receipt; None before it.
        use_of_item: the result of the use of the challenge's item; None before it.

    Returns:
        The verdict; or the fact that has to be looked up, or the effect that has to happen, before
        the next rule.
    """
    if operation.id == SIGN_IN:
        return _decide_sign_in(actor, policy, now, facts)

    if not policy.enabled:
        return _allowed(Reason.MFA_NOT_ENABLED)
    max_age = policy.max_ages.get(operation.id)
    if max_age is None:
        return _allowed(Reason.OPERATION_NOT_SELECTED)
    exemption = _exemption(operation, actor)
    if exemption is not None:
        return _allowed(exemption, earns_receipt=True)
    step = _decide_by_proof(actor, redemption, use_of_item) or _decide_by_code(
        max_age, policy, now, facts, earns_receipt=True
    )
    if isinstance(step, Verdict):
        return _with_rejections(step, redemption, use_of_item)
    return step


def _exemption(operation: Operation, actor: Actor) -> Reason | None:
    if operation.is_response_action and actor.is_managed_services:
        return Reason.EXEMPT_MANAGED_SERVICES
    if operation.is_response_action and actor.in_automatic_playbook:
        return Reason.EXEMPT_AUTOMATIC_PLAYBOOK
    return None


def _decide_by_proof(
    actor: Actor,
    redemption: Redeemed | RefusedReceipt | None,
    use_of_item: UsedItem | RefusedChallenge | None,
) -> Verdict | Effect | None:
    """Decide by the actor's receipt, then by the actor's challenge; None if neither allows."""
    if actor.retry_receipt is not None:
        if redemption is None:
            return Effect.REDEMPTION
        if isinstance(redemption, Redeemed):
            return _allowed(Reason.EXEMPT_TIMED_OUT_RETRY, earns_receipt=True)
    if actor.challenge_id is not None:
        if use_of_item is None:
            return Effect.USE_OF_ITEM
        if isinstance(use_of_item, UsedItem):
            return _allowed(Reason.CHALLENGE_APPROVED, earns_receipt=True)
    return None


def _with_rejections(
    verdict: Verdict,
    redemption: Redeemed | RefusedReceipt | None,
    use_of_item: UsedItem | RefusedChallenge | None,
) -> Verdict:
    if isinstance(redemption, RefusedReceipt):
        verdict = replace(verdict, receipt_rejection=redemption.rejection)
    if isinstance(use_of_item, RefusedChallenge):
        verdict = replace(verdict, challenge_rejection=use_of_item.rejection)
    return verdict


def _decide_sign_in(actor: Actor, policy: Policy, now: datetime, facts: Facts) -> Step:
    if actor.is_saml:
        return _allowed(Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML)
    if not policy.enabled:
        if "account_mfa" not in facts:
            return Fact.ACCOUNT_MFA
        if not facts["account_mfa"]:
            return _allowed(Reason.MFA_NOT_ENABLED)
    return _decide_by_code(LIFETIME, policy, now, facts)


def _decide_by_code(
    max_age: timedelta, policy: Policy, now: datetime, facts: Facts, *, earns_receipt: bool = False
) -> Step:
    """Decide by the rules that come last: whether a code was given, and whether one could be."""
    if max_age == EVERY_TIME:
        reason = Reason.EVERY_TIME
    else:
        if "elevation" not in facts:
            return Fact.ELEVATION
        elevation = facts["elevation"]
        reason = Reason.NOT_ELEVATED
        if elevation is not None and elevation.is_live(now):
            if not elevation.is_older_than(max_age, now):
                return _allowed(Reason.ELEVATED, elevation, earns_receipt=earns_receipt)
            reason = Reason.ELEVATION_TOO_OLD
    if "enrolled" not in facts:
        return Fact.ENROLLED
    if not facts["enrolled"]:
        if policy.in_grace(now):
            if "ever_enrolled" not in facts:
                return Fact.EVER_ENROLLED
            if not facts["ever_enrolled"]:
                return Verdict(
                    Decision.ALLOWED, Reason.ENROLLMENT_GRACE, enroll_by=policy.enroll_by
                )
        return _required(Decision.ENROLLMENT_REQUIRED, Reason.NOT_ENROLLED, max_age)
    return _required(Decision.STEP_UP_REQUIRED, reason, max_age)


def _required(decision: Decision, reason: Reason, max_age: timedelta) -> Verdict:
    if max_age == EVERY_TIME:
        return Verdict(decision, reason, needs_challenge=True)
    return Verdict(decision, reason, max_age=max_age)


def _allowed(
    reason: Reason, elevation: Elevation | None = None, *, earns_receipt: bool = False
) -> Verdict:
    return Verdict(Decision.ALLOWED, reason, elevation, earns_receipt=earns_receipt)
