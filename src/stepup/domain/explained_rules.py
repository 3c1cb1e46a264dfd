"""The rules of a decision up to the one that matches, each with a sentence for people.

`decide` alone decides. This module begins with its verdict, and says why no earlier rule matched.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Final

from stepup.domain.actor import Actor
from stepup.domain.decision import Facts, Reason, Verdict
from stepup.domain.elevation import LIFETIME
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.operations import SIGN_IN, Operation
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.values import value

_SIGN_IN_RULES: Final = (
    Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML,
    Reason.MFA_NOT_ENABLED,
    Reason.ELEVATED,
    Reason.ENROLLMENT_GRACE,
    Reason.NOT_ENROLLED,
)
_RULES: Final = (
    Reason.MFA_NOT_ENABLED,
    Reason.OPERATION_NOT_SELECTED,
    Reason.EXEMPT_MANAGED_SERVICES,
    Reason.EXEMPT_AUTOMATIC_PLAYBOOK,
    Reason.EXEMPT_TIMED_OUT_RETRY,
    Reason.CHALLENGE_APPROVED,
    Reason.ELEVATED,
    Reason.ENROLLMENT_GRACE,
    Reason.NOT_ENROLLED,
)
"""The rules in the order of `decide`, without those that require a code, which come last."""

CHALLENGE_REJECTIONS: Final[Mapping[ChallengeRejection | None, str]] = {
    None: "The actor context has no challenge.",
    ChallengeRejection.UNKNOWN: "This caller has created no such challenge for the person.",
    ChallengeRejection.OTHER_SESSION: "The challenge was created for another session.",
    ChallengeRejection.NOT_AN_ITEM: "The challenge does not name this operation and target.",
    ChallengeRejection.ITEM_USED: "The challenge has allowed this action before.",
    ChallengeRejection.PENDING: "The person has not answered the challenge.",
    ChallengeRejection.DECLINED: "The person declined the challenge.",
    ChallengeRejection.CANCELLED: "The challenge was cancelled.",
    ChallengeRejection.EXPIRED: "The challenge or its approval has expired.",
    ChallengeRejection.REVOKED: (
        "A sign-out, a revocation or the end of the authenticator has ended the challenge."
    ),
}
MATCHES: Final = {
    Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML: "A SAML account gives no code at sign-in.",
    Reason.MFA_NOT_ENABLED: "The policy is not enabled.",
    Reason.EXEMPT_MANAGED_SERVICES: (
        "The Managed Services operations team carries out a response action."
    ),
    Reason.EXEMPT_AUTOMATIC_PLAYBOOK: (
        "An automatically triggered playbook run carries out a response action."
    ),
    Reason.CHALLENGE_APPROVED: "The person has approved this action by the challenge.",
    Reason.NOT_ENROLLED: "The person has no active authenticator.",
    Reason.NOT_ELEVATED: "The person must give a code in this session.",
    Reason.ELEVATION_TOO_OLD: "The person must give a code again in this session.",
    Reason.EVERY_TIME: "The person must approve this single action by a challenge.",
}


@value
class ExplainedRule:
    """A rule, whether it decides, and why."""

    reason: Reason
    matched: bool
    explanation: str


@value
class Explained:
    """A decision, and what it was made of. The actor presents no retry receipt."""

    operation: Operation
    actor: Actor
    policy: Policy
    now: datetime
    facts: Facts
    verdict: Verdict

    def rules(self) -> tuple[ExplainedRule, ...]:
        """The rules up to the one that decided, in their order; only the last one matched."""
        order = _SIGN_IN_RULES if self._is_sign_in else _RULES
        passed = takewhile(lambda reason: reason is not self.verdict.reason, order)
        return (
            *(ExplainedRule(reason, False, self._why_not(reason)) for reason in passed),
            ExplainedRule(self.verdict.reason, True, self._why()),
        )

    @property
    def _is_sign_in(self) -> bool:
        return self.operation.id == SIGN_IN

    @property
    def _max_age(self) -> timedelta:
        return LIFETIME if self._is_sign_in else self.policy.max_ages[self.operation.id]

    def _why(self) -> str:
        """Why the rule of the verdict matches."""
        verdict = self.verdict
        match verdict.reason:
            case Reason.MFA_NOT_ENABLED if self._is_sign_in:
                return "The policy is not enabled, and MFA is off for the person's own account."
            case Reason.OPERATION_NOT_SELECTED:
                return f"The policy does not select {self.operation.id}."
            case Reason.ELEVATED:
                assert verdict.elevation is not None  # noqa: S101  # of this reason
                given_at = _text(verdict.elevation.verified_at)
                return f"The person gave a code in this session at {given_at}."
            case Reason.ENROLLMENT_GRACE:
                assert verdict.enroll_by is not None  # noqa: S101  # of this reason
                return (
                    "The person never had an authenticator in this tenant, and has time to enrol"
                    f" until {_text(verdict.enroll_by)}."
                )
            case reason:
                return MATCHES[reason]

    def _why_not(self, reason: Reason) -> str:
        """Why an earlier rule does not match."""
        match reason:
            case Reason.SIGN_IN_NOT_SUPPORTED_FOR_SAML:
                return "The account is not a SAML account."
            case Reason.MFA_NOT_ENABLED if self.policy.enabled:
                return "The policy is enabled."
            case Reason.MFA_NOT_ENABLED:
                return "The policy is not enabled, but MFA is on for the person's own account."
            case Reason.OPERATION_NOT_SELECTED:
                return f"The policy selects {self.operation.id}."
            case Reason.EXEMPT_MANAGED_SERVICES | Reason.EXEMPT_AUTOMATIC_PLAYBOOK:
                return self._why_not_exempt(reason)
            case Reason.EXEMPT_TIMED_OUT_RETRY:
                return "An explanation takes no retry receipt."
            case Reason.CHALLENGE_APPROVED:
                return CHALLENGE_REJECTIONS[self.verdict.challenge_rejection]
            case Reason.ELEVATED:
                return self._why_not_elevated()
            case Reason.ENROLLMENT_GRACE if not self.facts["enrolled"]:
                return self._why_not_in_grace()
            case _:
                return "The person has an active authenticator."

    def _why_not_exempt(self, reason: Reason) -> str:
        if not self.operation.is_response_action:
            return f"{self.operation.id} is not a response action."
        if reason is Reason.EXEMPT_MANAGED_SERVICES:
            return "The person does not act for the Managed Services operations team."
        if self.actor.playbook_run is None:
            return "The action does not belong to a playbook run."
        return "A person triggered the playbook run."

    def _why_not_elevated(self) -> str:
        if self._max_age == EVERY_TIME:
            return f"The policy needs a code for {self.operation.id} every time."
        elevation = self.facts["elevation"]
        if elevation is None or not elevation.is_live(self.now):
            return "The session has no live elevation."
        return (
            f"The person gave a code in this session at {_text(elevation.verified_at)}, more than"
            f" {self._max_age.total_seconds():.0f} seconds ago."
        )

    def _why_not_in_grace(self) -> str:
        if self.policy.enroll_by is None:
            return "The policy has no enroll_by."
        if not self.policy.enabled:
            return "The policy is not enabled, so its enroll_by does not count."
        if not self.policy.in_grace(self.now):
            return f"The time to enrol has ended at {_text(self.policy.enroll_by)}."
        return "The person had an authenticator in this tenant before, or was forgotten."


def _text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
