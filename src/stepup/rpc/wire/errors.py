"""Turns errors into gRPC status, in one place (api.md, "What is an answer and what an error").

Every status has `google.rpc.ErrorInfo`. The status of an invalid field also has `BadRequest`, and
that of a call worth a retry has `RetryInfo`. No message has a secret, a driver's text or a stack.
"""

from dataclasses import dataclass
from uuid import uuid4

import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status as StatusMessage
from grpc import StatusCode

from stepup.domain import errors

DOMAIN = "stepup"
_RETRY_DELAY = Duration(seconds=1)
_log = structlog.get_logger(__name__)

# The first class that matches an error counts: subclasses come before their bases.
_REASONS: tuple[tuple[type[errors.ServiceError], StatusCode, str], ...] = (
    (errors.UnknownOperationError, StatusCode.INVALID_ARGUMENT, "UNKNOWN_OPERATION"),
    (errors.InvalidFieldError, StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (
        errors.CallerUnauthenticatedError,
        StatusCode.UNAUTHENTICATED,
        "CALLER_UNAUTHENTICATED",
    ),
    (errors.PortalSessionError, StatusCode.UNAUTHENTICATED, "PORTAL_SESSION"),
    (errors.NoPortalError, StatusCode.FAILED_PRECONDITION, "NO_PORTAL"),
    (errors.CallerNotPermittedError, StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED"),
    (errors.ClaimNotPermittedError, StatusCode.PERMISSION_DENIED, "CLAIM_NOT_PERMITTED"),
    (errors.CallerRateLimitedError, StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_LIMITED"),
    (errors.OverloadedError, StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (errors.NotForOneselfError, StatusCode.FAILED_PRECONDITION, "NOT_FOR_ONESELF"),
    (errors.UnknownPersonError, StatusCode.NOT_FOUND, "UNKNOWN_PERSON"),
    (errors.UnlockLimitError, StatusCode.RESOURCE_EXHAUSTED, "UNLOCK_LIMIT"),
    (errors.RoleRequiredError, StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"),
    (errors.ElevationRequiredError, StatusCode.FAILED_PRECONDITION, "ELEVATION_REQUIRED"),
    (errors.EnrollmentStateError, StatusCode.FAILED_PRECONDITION, "ENROLLMENT_STATE"),
    (errors.ChallengeStateError, StatusCode.FAILED_PRECONDITION, "CHALLENGE_STATE"),
    (errors.ChallengeLimitError, StatusCode.RESOURCE_EXHAUSTED, "CHALLENGE_LIMIT"),
    (errors.WaitingLimitError, StatusCode.RESOURCE_EXHAUSTED, "WAITING_LIMIT"),
    (errors.DrainingError, StatusCode.UNAVAILABLE, "DRAINING"),
    (errors.MfaEnforcedError, StatusCode.FAILED_PRECONDITION, "MFA_ENFORCED_BY_POLICY"),
    (errors.UnknownTenantError, StatusCode.FAILED_PRECONDITION, "UNKNOWN_TENANT"),
    (errors.EtagMismatchError, StatusCode.ABORTED, "ETAG_MISMATCH"),
    (errors.RequestUnderWayError, StatusCode.ABORTED, "REQUEST_UNDER_WAY"),
    (errors.StoreUnavailableError, StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"),
)

_WORTH_A_RETRY = (
    errors.OverloadedError
    | errors.RequestUnderWayError
    | errors.WaitingLimitError
    | errors.DrainingError
    | errors.StoreUnavailableError
)


@dataclass(frozen=True, slots=True)
class Status:
    """The status of a call. `details` is a serialised `google.rpc.Status`."""

    code: StatusCode
    message: str
    reason: str
    details: bytes

    @property
    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """The trailing metadata."""
        return (("grpc-status-details-bin", self.details),) if self.details else ()


OK = Status(StatusCode.OK, "", "", b"")


class RefusedError(Exception):
    """Ends the call with a status instead of an answer."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.reason)
        self.status = status


def to_status(error: BaseException, request_id: str = "") -> Status:
    """The status of an error. Any but a `ServiceError` is a bug, whose stack goes to the log."""
    if isinstance(error, RefusedError):
        return error.status
    for kind, code, reason in _REASONS:
        if isinstance(error, kind):
            return _status(
                code, reason, str(error), _further_details(error), metadata=_metadata(error)
            )
    error_id = str(uuid4())
    _log.error("internal_error", error_id=error_id, request_id=request_id, exc_info=error)
    return _status(
        StatusCode.INTERNAL,
        "INTERNAL",
        f"internal error {error_id}",
        [],
        metadata={"error_id": error_id},
    )


def unimplemented() -> Status:
    """The status of a call of an unknown method."""
    return _status(StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD", "there is no such method", [])


def overloaded() -> Status:
    """The status of a call beyond the limit of calls in flight."""
    return to_status(errors.OverloadedError("too many calls are in flight"))


def too_many_wait() -> Status:
    """The status of a call that would exceed the limit of calls that wait."""
    return to_status(errors.WaitingLimitError("too many calls wait"))


def expired() -> Status:
    """The status of a call whose deadline has passed before its work began."""
    message = "the deadline has passed before the call had its turn"
    return _status(StatusCode.DEADLINE_EXCEEDED, "EXPIRED", message, [])


def message_late() -> Status:
    """The status of a call whose client is too slow (S26)."""
    message = "the client did not send its message, or did not take its answer, in time"
    return _status(StatusCode.DEADLINE_EXCEEDED, "CLIENT_TOO_SLOW", message, [])


def metadata_too_large() -> Status:
    """The status of a call whose metadata exceed the limit (S18)."""
    message = "the call has more than 16 KiB of metadata"
    return _status(StatusCode.RESOURCE_EXHAUSTED, "METADATA_TOO_LARGE", message, [])


def unknown_service() -> Status:
    """The status of a health check of an unknown service."""
    return _status(StatusCode.NOT_FOUND, "UNKNOWN_SERVICE", "there is no such service", [])


def no_request() -> Status:
    """The status of a call without a message."""
    return to_status(errors.InvalidFieldError("request", "is missing"))


def _metadata(error: BaseException) -> dict[str, str]:
    """The metadata of `ErrorInfo`, for programs."""
    if isinstance(error, errors.EnrollmentStateError):
        return {"fault": error.fault.name}
    if isinstance(error, errors.ChallengeStateError) and error.state is not None:
        return {"state": error.state.upper()}
    if isinstance(error, errors.ElevationRequiredError):
        return {"next_step": "VERIFY_OTP" if error.is_enrolled else "ENROLL"}
    return {}


def _further_details(error: BaseException) -> list[Message]:
    if isinstance(error, errors.InvalidFieldError):
        violation = BadRequest.FieldViolation(field=error.field, description=error.problem)
        return [BadRequest(field_violations=[violation])]
    if (
        isinstance(
            error,
            errors.CallerRateLimitedError | errors.ChallengeLimitError | errors.UnlockLimitError,
        )
        and error.retry_after is not None
    ):
        delay = Duration()
        delay.FromTimedelta(error.retry_after)
        return [RetryInfo(retry_delay=delay)]
    if isinstance(error, _WORTH_A_RETRY):
        return [RetryInfo(retry_delay=_RETRY_DELAY)]
    return []


def _status(
    code: StatusCode,
    reason: str,
    message: str,
    further: list[Message],
    metadata: dict[str, str] | None = None,
) -> Status:
    info = ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
    status = StatusMessage(code=code.value[0], message=message)
    for detail in (info, *further):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return Status(code, message, reason, status.SerializeToString())
