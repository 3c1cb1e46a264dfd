"""What the core answers about a person, for tests of the portal."""

from datetime import UTC, datetime, timedelta
from typing import Any

from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import step_up_service_pb2


def enrollment(
    *,
    active: bool = True,
    elevated_before: timedelta | None = None,
    locked_for: timedelta | None = None,
    **fields: Any,
) -> pb.GetEnrollmentResponse:
    """The state of a person: `fields` are those of the authenticator."""
    answer = pb.GetEnrollmentResponse(account_mfa_enabled=active)
    if active:
        answer.active.MergeFrom(pb.Enrollment(**{"has_reset_code": True} | fields))
        answer.active.activated_at.FromDatetime(datetime(2026, 11, 1, tzinfo=UTC))
    if locked_for is not None:
        answer.active.locked_until.FromDatetime(datetime.now(UTC) + locked_for)
    if elevated_before is not None:
        verified_at = datetime.now(UTC) - elevated_before
        answer.elevation.verified_at.FromDatetime(verified_at)
        answer.elevation.expires_at.FromDatetime(verified_at + timedelta(minutes=15))
    return answer


def verification(
    name: str = "VERIFIED", *, attempts: int = 0, retry_after: int = 0, next_code_after: int = 0
) -> step_up_service_pb2.VerifyOtpResponse:
    """The outcome of a code; times are in seconds."""
    answer = step_up_service_pb2.VerifyOtpResponse(
        outcome=f"OUTCOME_{name}", attempts_remaining=attempts
    )
    if name == "VERIFIED":
        answer.elevation.verified_at.FromDatetime(datetime.now(UTC))
        answer.elevation.expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=15))
    if retry_after:
        answer.retry_after.seconds = retry_after
    if next_code_after:
        answer.next_code_after.seconds = next_code_after
    return answer
