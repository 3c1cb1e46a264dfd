"""Counts decisions and outcomes of codes, for operators.

A label has a word of the product's rules, and never names a person or a tenant (S11).
"""

from functools import cache
from typing import Final

from prometheus_client import Counter

from stepup.domain.authenticator import Attempt
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.totp import StepMatch
from stepup.service.enrollment.reset_codes import ResetAttempt

_decisions = Counter(
    "stepup_decisions", "Recorded decisions, and the rule that decided.", ["decision", "reason"]
)
_refused_receipts = Counter("stepup_receipts_refused", "Refused retry receipts.", ["rejection"])
_refused_challenges = Counter(
    "stepup_challenges_refused",
    "Challenges of checks that did not allow the action.",
    ["rejection"],
)
_verifications = Counter(
    "stepup_verifications",
    "Codes given to VerifyOtp or AnswerChallenge, by outcome, and the cause of a rejection.",
    ["outcome", "cause"],
)
_resets = Counter("stepup_resets", "Reset codes, by outcome.", ["outcome"])
_locks = Counter(
    "stepup_locks",
    "Times that wrong codes locked or suspended somebody's codes, or kept a session from them.",
    ["codes"],
)
_near_misses = Counter(
    "stepup_near_misses",
    "Refused codes of the 30-second step just before those that are accepted, or just after.",
    ["step"],
)
_BY_OFFSET: Final = {-1: _near_misses.labels("before"), 1: _near_misses.labels("after")}


def count_decision(verdict: Verdict) -> None:
    """Count a recorded decision."""
    _of(verdict.decision, verdict.reason).inc()
    if verdict.receipt_rejection is not None:
        _refused_receipts.labels(verdict.receipt_rejection).inc()
    if verdict.challenge_rejection is not None:
        _refused_challenges.labels(verdict.challenge_rejection).inc()


def count_verification(verification: Verification, attempt: Attempt | None = None) -> None:
    """Count a committed attempt with a code."""
    is_rejected = verification.outcome is Outcome.REJECTED
    cause = attempt.value if attempt and is_rejected else ""
    _verifications.labels(verification.outcome.value, cause).inc()
    if is_rejected and verification.retry_after:
        _locks.labels("one_time").inc()


def count_spent_session() -> None:
    """Count a spent session, once that is committed."""
    _locks.labels("session").inc()


def count_reset(attempt: ResetAttempt) -> None:
    """Count a committed attempt with a reset code."""
    _resets.labels(attempt.outcome.value).inc()
    if attempt.outcome is Attempt.WRONG and not attempt.attempts_remaining:
        _locks.labels("reset").inc()


def count_mistyped_reset_code() -> None:
    """Count a reset code whose check characters do not fit. It is not an attempt."""
    _resets.labels("mistyped").inc()


def count_near_miss(matched: StepMatch) -> None:
    """Count a code if it is a near miss (S1).

    Many near misses mean that a clock is wrong, this machine's or people's, or that somebody passes
    codes on. They are never a reason to accept a code.
    """
    if matched.near_miss:
        _BY_OFFSET[matched.near_miss].inc()


@cache
def _of(decision: Decision, reason: Reason) -> Counter:
    return _decisions.labels(decision, reason)
