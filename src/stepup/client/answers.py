"""The answers of the client. No answer has a truth value, so that none can be misread.

A program asks for the class of an answer:

    match await stepup.check(actor, "response.run_osquery", target="host-7"):
        case Allowed():
            ...  # run the action
        case StepUpRequired(needs_challenge=True):
            ...  # ask by a challenge: `approve`
        case StepUpRequired():
            ...  # ask for a code: `verify`, then check again
        case EnrollmentRequired():
            ...  # lead the person through the wizard
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NoReturn, TypeAlias

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepup.client.errors import AnswerError, NotApprovedError
from stepup.v1 import challenge_service_pb2, step_up_service_pb2


def _names(enum: Any, prefix: str) -> Mapping[int, str]:
    """Return the names of an enum's values, without their prefix; UNSPECIFIED is empty."""
    names = {number: name.removeprefix(prefix) for name, number in enum.items()}
    return {**names, 0: ""}


_REASONS: Final = _names(step_up_service_pb2.DecisionReason, "DECISION_REASON_")
_REASONS_OF: Final = {
    step_up_service_pb2.DECISION_ALLOWED: frozenset(
        {
            step_up_service_pb2.DECISION_REASON_MFA_NOT_ENABLED,
            step_up_service_pb2.DECISION_REASON_OPERATION_NOT_SELECTED,
            step_up_service_pb2.DECISION_REASON_EXEMPT_MANAGED_SERVICES,
            step_up_service_pb2.DECISION_REASON_EXEMPT_AUTOMATIC_PLAYBOOK,
            step_up_service_pb2.DECISION_REASON_EXEMPT_TIMED_OUT_RETRY,
            step_up_service_pb2.DECISION_REASON_ELEVATED,
            step_up_service_pb2.DECISION_REASON_SIGN_IN_NOT_SUPPORTED_FOR_SAML,
            step_up_service_pb2.DECISION_REASON_CHALLENGE_APPROVED,
            step_up_service_pb2.DECISION_REASON_ENROLLMENT_GRACE,
        }
    ),
    step_up_service_pb2.DECISION_STEP_UP_REQUIRED: frozenset(
        {
            step_up_service_pb2.DECISION_REASON_NOT_ELEVATED,
            step_up_service_pb2.DECISION_REASON_ELEVATION_TOO_OLD,
            step_up_service_pb2.DECISION_REASON_EVERY_TIME,
        }
    ),
    step_up_service_pb2.DECISION_ENROLLMENT_REQUIRED: frozenset(
        {step_up_service_pb2.DECISION_REASON_NOT_ENROLLED}
    ),
}
"""The reasons that each decision can have. Any other pair is not an answer."""
_DETAILS: Final = _names(step_up_service_pb2.NotElevatedDetail, "NOT_ELEVATED_DETAIL_")
_RECEIPT_REJECTIONS: Final = _names(step_up_service_pb2.ReceiptRejection, "RECEIPT_REJECTION_")
_CHALLENGE_REJECTIONS: Final = _names(
    step_up_service_pb2.ChallengeRejection, "CHALLENGE_REJECTION_"
)
_OUTCOMES: Final = _names(step_up_service_pb2.Outcome, "OUTCOME_")
_STATES: Final = _names(challenge_service_pb2.ChallengeState, "CHALLENGE_STATE_")
_UNKNOWN: Final = "UNKNOWN_TO_THIS_CLIENT"
_OUT_OF_RANGE: Final = "the server answered a time that is out of range"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _NoTruthValue:
    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} has no truth value: ask for the class of the answer, such as"
            " isinstance(answer, Allowed), or call require(), which raises unless the answer is"
            " Allowed"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed(_NoTruthValue):
    """The action may run now, once."""

    reason: str
    """The rule that allowed, such as `ELEVATED`: a `DecisionReason` without its prefix."""
    decision_id: str = ""
    """The id of the decision in the decision log: a UUID."""
    receipt: str = field(default="", repr=False)
    """Proves this decision for a retry of the action, if the action times out. Empty if the policy
    does not select the operation. Keep it as confidential as the action."""
    receipt_rejection: str = ""
    """Why the presented receipt gave no exemption, such as `EXPIRED`; empty if nothing was
    rejected."""
    challenge_rejection: str = ""
    """Why the presented challenge did not allow the action; empty if nothing was rejected."""
    elevation_expires_at: datetime | None = None
    """The end of the session's elevation, UTC. None unless the reason is `ELEVATED`."""
    enroll_by: datetime | None = None
    """The end of the person's time to enrol, UTC: ask the person to enrol. None unless the reason
    is `ENROLLMENT_GRACE`."""
    policy_etag: str = ""
    """The version of the policy that decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpRequired(_NoTruthValue):
    """The action must not run: the person must give a code first."""

    reason: str
    """`NOT_ELEVATED`, `ELEVATION_TOO_OLD` or `EVERY_TIME`."""
    decision_id: str = ""
    """As in `Allowed`."""
    max_age: timedelta | None = None
    """How old an elevation may be for this operation. None if `needs_challenge`."""
    needs_challenge: bool = False
    """Whether no elevation helps: the person must approve this very action. See `approve`."""
    detail: str = ""
    """Why the session is not elevated, for a message to the person: `NEVER`, `EXPIRED`, `REVOKED`,
    `OTHER_SESSION`; empty if the cause is not recorded."""
    receipt_rejection: str = ""
    """As in `Allowed`."""
    challenge_rejection: str = ""
    """As in `Allowed`."""
    policy_etag: str = ""
    """As in `Allowed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentRequired(_NoTruthValue):
    """The action must not run: the person must enrol an authenticator first."""

    reason: str = "NOT_ENROLLED"
    """`NOT_ENROLLED`."""
    decision_id: str = ""
    """As in `Allowed`."""
    max_age: timedelta | None = None
    """As in `StepUpRequired`, for the check after the enrollment."""
    needs_challenge: bool = False
    """As in `StepUpRequired`, for the check after the enrollment."""
    receipt_rejection: str = ""
    """As in `Allowed`."""
    challenge_rejection: str = ""
    """As in `Allowed`."""
    policy_etag: str = ""
    """As in `Allowed`."""


Answer: TypeAlias = Allowed | StepUpRequired | EnrollmentRequired
"""The answers of a check. Every other end of a check is a `StepUpError`."""


class Answers(tuple[Answer, ...], _NoTruthValue):
    """The answers of a batch, in the order of its checks. The batch has no truth value either."""

    __slots__ = ()

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "Answers has no truth value: look at each answer, with isinstance(answer, Allowed)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified(_NoTruthValue):
    """The code was right, and the session is elevated. Check again before the action."""

    verified_at: datetime
    """The time at which the code arrived, UTC."""
    expires_at: datetime
    """The end of the elevation, UTC: 15 minutes after `verified_at`."""
    attempts_remaining: int = 0
    """As in `NotVerified`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotVerified(_NoTruthValue):
    """The code elevates nothing. The session may still have an earlier elevation."""

    outcome: str
    """`REJECTED`: ask for another code. `THROTTLED`: locked for `retry_after`. `NOT_ENROLLED`: the
    person has no authenticator. `SUSPENDED`: the authenticator must be reset. `SESSION_SPENT`: the
    person must sign in again, for a new session id."""
    attempts_remaining: int = 0
    """The number of wrong codes before the next lock, or before the session is spent."""
    retry_after: timedelta | None = None
    """The remaining time of the lock; None if the person is not locked."""
    next_code_after: timedelta | None = None
    """For a code that was used before or came a moment late: the time until the next code begins.
    Such a code does not count as an attempt."""


Verification: TypeAlias = Verified | NotVerified
"""The answers of `verify`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved(_NoTruthValue):
    """A person approved the items of a challenge: each may run once, until `usable_until`."""

    challenge_id: str
    """Present it with the check of each item, in the session for which it was created."""
    usable_until: datetime
    """The end of the approval, UTC."""
    challenge: challenge_service_pb2.Challenge = field(repr=False)
    """The whole challenge, with its items and which of them were used."""


def answer_of(response: step_up_service_pb2.CheckStepUpResponse) -> Answer:
    """Read a decision.

    Raises:
        AnswerError: this client does not know the decision with its reason. A server that is newer
            than the client may have new reasons.
    """
    if response.reason not in _REASONS_OF.get(response.decision, ()):
        raise AnswerError(
            f"the server answered decision {response.decision} with reason {response.reason}, which"
            " this client does not know: do not run the action. Is the server newer?"
        )
    if response.decision == step_up_service_pb2.DECISION_ALLOWED:
        return Allowed(
            reason=_REASONS[response.reason],
            decision_id=response.decision_id,
            receipt=response.receipt,
            receipt_rejection=_receipt_rejection(response),
            challenge_rejection=_challenge_rejection(response),
            elevation_expires_at=_time(response.elevation.expires_at)
            if response.HasField("elevation")
            else None,
            enroll_by=_time(response.enroll_by) if response.HasField("enroll_by") else None,
            policy_etag=response.policy_etag,
        )
    requirement = response.requirement
    common: dict[str, Any] = {
        "reason": _REASONS[response.reason],
        "decision_id": response.decision_id,
        "max_age": _span(requirement.max_age) if requirement.HasField("max_age") else None,
        "needs_challenge": requirement.challenge,
        "receipt_rejection": _receipt_rejection(response),
        "challenge_rejection": _challenge_rejection(response),
        "policy_etag": response.policy_etag,
    }
    if response.decision == step_up_service_pb2.DECISION_STEP_UP_REQUIRED:
        return StepUpRequired(detail=_DETAILS.get(response.detail, _UNKNOWN), **common)
    return EnrollmentRequired(**common)


def _receipt_rejection(response: step_up_service_pb2.CheckStepUpResponse) -> str:
    return _RECEIPT_REJECTIONS.get(response.receipt_rejection, _UNKNOWN)


def _challenge_rejection(response: step_up_service_pb2.CheckStepUpResponse) -> str:
    return _CHALLENGE_REJECTIONS.get(response.challenge_rejection, _UNKNOWN)


def verification_of(response: step_up_service_pb2.VerifyOtpResponse) -> Verification:
    """Read the outcome of a code.

    Raises:
        AnswerError: this client does not know the outcome.
    """
    outcome = _OUTCOMES.get(response.outcome, "")
    if outcome == "VERIFIED" and response.HasField("elevation"):
        return Verified(
            verified_at=_time(response.elevation.verified_at),
            expires_at=_time(response.elevation.expires_at),
            attempts_remaining=response.attempts_remaining,
        )
    if outcome in {"", "VERIFIED"}:
        raise AnswerError(
            f"the server answered outcome {response.outcome}, which this client does not know:"
            " the code counts as not verified. Is the server newer?"
        )
    return NotVerified(
        outcome=outcome,
        attempts_remaining=response.attempts_remaining,
        retry_after=_span(response.retry_after) if response.HasField("retry_after") else None,
        next_code_after=_span(response.next_code_after)
        if response.HasField("next_code_after")
        else None,
    )


def _time(timestamp: Timestamp) -> datetime:
    try:
        return _EPOCH + _span(timestamp)
    except OverflowError as error:
        raise AnswerError(_OUT_OF_RANGE) from error


def _span(duration: Duration | Timestamp) -> timedelta:
    try:
        return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)
    except OverflowError as error:
        raise AnswerError(_OUT_OF_RANGE) from error


def state_of(challenge: challenge_service_pb2.Challenge) -> str:
    """Return the state of a challenge, such as `PENDING`.

    Raises:
        AnswerError: this client does not know the state.
    """
    state = _STATES.get(challenge.state)
    if not state:
        raise AnswerError(
            f"the server answered challenge state {challenge.state}, which this client does not"
            " know: nothing is approved. Is the server newer?"
        )
    return state


def approval_of(challenge: challenge_service_pb2.Challenge) -> Approved:
    """Return the approval of a challenge.

    Raises:
        NotApprovedError: the challenge is not approved.
        AnswerError: this client does not know the state.
    """
    state = state_of(challenge)
    if state != "APPROVED":
        raise NotApprovedError(state, challenge)
    return Approved(
        challenge_id=challenge.challenge_id,
        usable_until=_time(challenge.usable_until),
        challenge=challenge,
    )
