"""The decision: product.md's rules, top to bottom.

Rules read facts that cost a look into a store. `decide` asks for such a fact only when no earlier
rule has decided: it yields the `Fact` and is sent its value. Whoever drives it does the I/O; the
order of the rules stands here and nowhere else.
"""

from collections.abc import Generator
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Generic, TypeVar

from stepup.domain.actor import Actor
from stepup.domain.callers import Claim
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.operations import SIGN_IN, Operation
from stepup.domain.policy import Policy
from stepup.domain.receipts import Origin, ReceiptRejection
from stepup.domain.values import value

T = TypeVar("T")


class Fact(Generic[T]):
    """Something that a rule needs to know and that has to be looked up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __iter__(self) -> Generator["Fact[Any]", T, T]:
        return (yield self)


ELEVATION = Fact[Elevation | None]("ELEVATION")
"""The session's elevation that no revocation has voided."""
ENROLLED = Fact[bool]("ENROLLED")
"""Whether the user has an active authenticator."""
ACCOUNT_MFA = Fact[bool]("ACCOUNT_MFA")
"""Whether the user has turned MFA on for their own account."""
REDEMPTION = Fact[ReceiptRejection | None]("REDEMPTION")
"""Why the retry receipt was refused; None when it was valid, and is used up now."""


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


@value
class Verdict:
    """The decision with its reason.

    `max_age` is what a step-up has to meet, where one is required. `earns_receipt` says that the
    policy selects the operation, and yet it was allowed.
    """

    decision: Decision
    reason: Reason
    elevation: Elevation | None = None
    max_age: timedelta | None = None
    receipt_rejection: ReceiptRejection | None = None
    earns_receipt: bool = False

    def origin(self, now: datetime) -> Origin:
        """What a receipt of this decision rests on; a retry's hands on what it has redeemed."""
        if self.elevation is not None:
            return Origin.of_elevation(self.elevation, now)
        return Origin.of_exemption(_EXEMPTIONS[self.reason], now)


_EXEMPTIONS = {
    Reason.EXEMPT_MANAGED_SERVICES: Claim.MANAGED_SERVICES,
    Reason.EXEMPT_AUTOMATIC_PLAYBOOK: Claim.AUTOMATIC_PLAYBOOK,
}

Deciding = Generator[Fact[Any], Any, Verdict]
"""A decision under way: it yields the facts it asks for and returns the verdict."""


def decide(operation: Operation, actor: Actor, policy: Policy, now: datetime) -> Deciding:
    """Decide one operation by the first rule that matches."""
    if operation.id == SIGN_IN:
        return (yield from _decide_sign_in(actor, policy, now))

    if not policy.enabled:
        return _allowed(Reason.MFA_NOT_ENABLED)
    if not policy.selects(operation.id):
        return _allowed(Reason.OPERATION_NOT_SELECTED)
    if operation.is_response_action and actor.is_managed_services:
        return _allowed(Reason.EXEMPT_MANAGED_SERVICES, earns_receipt=True)
    if operation.is_response_action and actor.in_automatic_playbook:
        return _allowed(Reason.EXEMPT_AUTOMATIC_PLAYBOOK, earns_receipt=True)

    rejection = None
    if actor.retry_receipt is not None:
        rejection = yield from REDEMPTION
        if rejection is None:
            return _allowed(Reason.EXEMPT_TIMED_OUT_RETRY, earns_receipt=True)

    max_age = policy.max_ages[operation.id]
    elevation = yield from ELEVATION
    live = elevation is not None and elevation.is_live(now)
    too_old = live and elevation is not None and elevation.is_older_than(max_age, now)
    if live and not too_old:
        return _allowed(Reason.ELEVATED, elevation, rejection, earns_receipt=True)
    if not (yield from ENROLLED):
        return Verdict(Decision.ENROLLMENT_REQUIRED, Reason.NOT_ENROLLED, None, max_age, rejection)
    reason = Reason.ELEVATION_TOO_OLD if too_old else Reason.NOT_ELEVATED
    return Verdict(Decision.STEP_UP_REQUIRED, reason, None, max_age, rejection)


def _decide_sign_in(actor: Actor, policy: Policy, now: datetime) -> Deciding:
    if actor.is_saml:
        return _allowed(Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML)
    if not policy.enabled and not (yield from ACCOUNT_MFA):
        return _allowed(Reason.MFA_NOT_ENABLED)
    elevation = yield from ELEVATION
    if elevation is not None and elevation.is_live(now):
        return _allowed(Reason.ELEVATED, elevation)
    if not (yield from ENROLLED):
        return Verdict(Decision.ENROLLMENT_REQUIRED, Reason.NOT_ENROLLED, None, LIFETIME)
    return Verdict(Decision.STEP_UP_REQUIRED, Reason.NOT_ELEVATED, None, LIFETIME)


def _allowed(
    reason: Reason,
    elevation: Elevation | None = None,
    receipt_rejection: ReceiptRejection | None = None,
    *,
    earns_receipt: bool = False,
) -> Verdict:
    return Verdict(
        Decision.ALLOWED,
        reason,
        elevation,
        receipt_rejection=receipt_rejection,
        earns_receipt=earns_receipt,
    )
