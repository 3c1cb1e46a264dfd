"""Converts values of the domain to messages."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from stepup.domain import elevation, enrollment, policy
from stepup.domain.actor import Device
from stepup.domain.audit import ChainedEvent
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.domain.decision import Decision, Reason, Verdict
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.instants import microseconds
from stepup.domain.item_use import ChallengeRejection
from stepup.domain.not_elevated import NotElevatedDetail
from stepup.domain.operations import Catalogue
from stepup.domain.receipts import ReceiptRejection
from stepup.rpc.wire.decode import EVENT_KINDS
from stepup.service.step_up.answers import Answer
from stepup.service.step_up.explain import Explanation
from stepup.v1 import (
    actor_pb2,
    audit_service_pb2,
    elevation_pb2,
    enrollment_service_pb2,
    policy_service_pb2,
    step_up_service_pb2,
)

_DECISIONS = {
    decision: step_up_service_pb2.Decision.Value(f"DECISION_{decision.name}")
    for decision in Decision
}
_REASONS = {
    reason: step_up_service_pb2.DecisionReason.Value(f"DECISION_REASON_{reason.name}")
    for reason in Reason
}
_DETAILS = {
    detail: step_up_service_pb2.NotElevatedDetail.Value(f"NOT_ELEVATED_DETAIL_{detail.name}")
    for detail in NotElevatedDetail
}
_RECEIPT_REJECTIONS = {
    rejection: step_up_service_pb2.ReceiptRejection.Value(f"RECEIPT_REJECTION_{rejection.name}")
    for rejection in ReceiptRejection
}
_CHALLENGE_REJECTIONS = {
    rejection: step_up_service_pb2.ChallengeRejection.Value(f"CHALLENGE_REJECTION_{rejection.name}")
    for rejection in ChallengeRejection
}
OUTCOMES = {
    outcome: step_up_service_pb2.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome
}
_METHODS = {
    method: elevation_pb2.AuthenticationMethod.Value(f"AUTHENTICATION_METHOD_{method.name}")
    for method in elevation.AuthenticationMethod
}
ENROLLMENT_STATES = {
    state: enrollment_service_pb2.EnrollmentState.Value(f"ENROLLMENT_STATE_{state.name}")
    for state in enrollment.EnrollmentState
}
RESET_OUTCOMES = {
    Attempt.VERIFIED: enrollment_service_pb2.RESET_OUTCOME_ACCEPTED,
    Attempt.WRONG: enrollment_service_pb2.RESET_OUTCOME_REJECTED,
    Attempt.THROTTLED: enrollment_service_pb2.RESET_OUTCOME_THROTTLED,
}
_KINDS = {kind: value for value, kind in EVENT_KINDS.items()}


def timestamp(at: datetime) -> Timestamp:
    """An instant."""
    message = Timestamp()
    _set(message, at)
    return message


def _set(message: Timestamp, at: datetime) -> None:
    # The same as `FromDatetime`, in a quarter of its time.
    message.seconds, beyond = divmod(microseconds(at), 1_000_000)
    message.nanos = beyond * 1000


def duration(length: timedelta) -> Duration | None:
    """A duration; None if it is zero, so that the field is absent."""
    if not length:
        return None
    message = Duration()
    message.FromTimedelta(length)
    return message


def set_elevation(
    response: step_up_service_pb2.CheckStepUpResponse
    | step_up_service_pb2.VerifyOtpResponse
    | enrollment_service_pb2.CompleteEnrollmentResponse
    | enrollment_service_pb2.GetEnrollmentResponse,
    found: elevation.Elevation | None,
) -> None:
    """Set the elevation of a response, if there is one."""
    if found is not None:
        # In place: protobuf copies a message that is assigned.
        message = response.elevation
        _set(message.verified_at, found.verified_at)
        _set(message.expires_at, found.expires_at)
        message.methods.extend(map(_METHODS.__getitem__, found.methods))


def answer(decided: Answer) -> step_up_service_pb2.CheckStepUpResponse:
    """A decision."""
    verdict = decided.verdict
    response = step_up_service_pb2.CheckStepUpResponse(
        decision=_DECISIONS[verdict.decision],
        reason=_REASONS[verdict.reason],
        decision_id=str(decided.decision_id),
        receipt=decided.receipt or "",
        policy_etag=decided.policy_etag,
    )
    set_elevation(response, verdict.elevation)
    _set_lack(response, verdict, decided.detail)
    if verdict.receipt_rejection is not None:
        response.receipt_rejection = _RECEIPT_REJECTIONS[verdict.receipt_rejection]
    if verdict.enroll_by is not None:
        _set(response.enroll_by, verdict.enroll_by)
    return response


def explanation(explained: Explanation) -> step_up_service_pb2.ExplainStepUpResponse:
    """The decision that a check would get, and its rules."""
    verdict = explained.verdict
    response = step_up_service_pb2.ExplainStepUpResponse(
        decision=_DECISIONS[verdict.decision],
        reason=_REASONS[verdict.reason],
        rules=[
            step_up_service_pb2.ExplainedRule(
                reason=_REASONS[rule.reason], matched=rule.matched, explanation=rule.explanation
            )
            for rule in explained.rules
        ],
        policy_etag=explained.policy_etag,
    )
    _set_lack(response, verdict, explained.detail)
    return response


def _set_lack(
    response: step_up_service_pb2.CheckStepUpResponse | step_up_service_pb2.ExplainStepUpResponse,
    verdict: Verdict,
    detail: NotElevatedDetail | None,
) -> None:
    """Set what the action needs, and why the challenge and the session do not allow it."""
    if verdict.max_age is not None:
        response.requirement.max_age.FromTimedelta(verdict.max_age)
    if verdict.needs_challenge:
        response.requirement.challenge = True
    if verdict.challenge_rejection is not None:
        response.challenge_rejection = _CHALLENGE_REJECTIONS[verdict.challenge_rejection]
    if detail is not None:
        response.detail = _DETAILS[detail]


def verification(outcome: Verification) -> step_up_service_pb2.VerifyOtpResponse:
    """The outcome of an attempt with a code."""
    response = step_up_service_pb2.VerifyOtpResponse(
        outcome=OUTCOMES[outcome.outcome],
        attempts_remaining=outcome.attempts_remaining,
        retry_after=duration(outcome.retry_after),
        next_code_after=duration(outcome.next_code_after),
    )
    set_elevation(response, outcome.elevation)
    return response


def active(
    authenticator: Authenticator, now: datetime, *, has_reset_code: bool
) -> enrollment_service_pb2.Enrollment:
    """An authenticator in force."""
    lock = authenticator.throttle.retry_after(now)
    return enrollment_service_pb2.Enrollment(
        enrollment_id=authenticator.enrollment_id,
        activated_at=timestamp(authenticator.activated_at),
        locked_until=timestamp(now + lock) if lock else None,
        suspended=authenticator.throttle.is_suspended,
        has_reset_code=has_reset_code,
    )


def pending(open_wizard: enrollment.PendingEnrollment) -> enrollment_service_pb2.PendingEnrollment:
    """An enrollment that is not completed."""
    return enrollment_service_pb2.PendingEnrollment(
        enrollment_id=open_wizard.enrollment_id,
        state=ENROLLMENT_STATES[open_wizard.state],
        expires_at=timestamp(open_wizard.expires_at),
        attempts_remaining=open_wizard.tries_remaining,
    )


def tenant_policy(stored: policy.Policy) -> policy_service_pb2.Policy:
    """Encode a policy. `max_age` is absent for the lifetime of an elevation and for every time."""
    return policy_service_pb2.Policy(
        tenant_id=stored.tenant_id,
        enabled=stored.enabled,
        operations=[
            policy_service_pb2.SelectedOperation(
                operation=operation_id,
                max_age=None if max_age == elevation.LIFETIME else duration(max_age),
                every_time=max_age == policy.EVERY_TIME,
            )
            for operation_id, max_age in sorted(stored.max_ages.items())
        ],
        etag=stored.etag,
        update_time=timestamp(stored.updated_at) if stored.updated_at else None,
        issuer=stored.issuer or "",
        enroll_by=timestamp(stored.enroll_by) if stored.enroll_by else None,
    )


def catalogue(operations: Catalogue) -> Iterable[policy_service_pb2.OperationCategory]:
    """The catalogue, category by category."""
    for category, members in operations:
        yield policy_service_pb2.OperationCategory(
            id=category.id,
            title=category.title,
            operations=[
                policy_service_pb2.Operation(id=operation.id, title=operation.title)
                for operation in members
            ],
        )


def event(chained: ChainedEvent) -> audit_service_pb2.AuditEvent:
    """An audit event, with its place in the chain."""
    happened = chained.event
    return audit_service_pb2.AuditEvent(
        tenant_id=happened.tenant_id,
        sequence=chained.sequence,
        event_id=happened.event_id,
        occurred_at=timestamp(happened.occurred_at),
        kind=_KINDS[happened.kind],
        caller=happened.caller,
        actor_user_id=happened.actor_user_id or "",
        subject_user_id=happened.subject_user_id or "",
        details=ParseDict(dict(happened.details), Struct()),
        previous_hash=chained.previous_hash,
        hash=chained.hash,
        client=_client(happened.client) if happened.client else None,
    )


def _client(device: Device) -> actor_pb2.Client:
    return actor_pb2.Client(address=device.address, user_agent=device.user_agent)
