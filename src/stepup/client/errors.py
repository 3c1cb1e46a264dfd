"""The errors of the clients: one tree. None of these errors lets an action run.

    StepUpError
    |- NotAllowedError     the answer of `require` or `action` is not Allowed
    |- NotApprovedError    the person did not approve a challenge
    |- UnavailableError    there is no answer now
    |- RequestError        the request, the credentials or the permissions must be corrected
    |- StateError          the state of a person, policy or challenge does not permit the call
    `- AnswerError         the server failed, or answered with something that is not an answer

The cause in `__cause__` is the error of grpc, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

if TYPE_CHECKING:
    from stepup.client.answers import EnrollmentRequired, StepUpRequired
    from stepup.v1.challenge_service_pb2 import Challenge


class StepUpError(Exception):
    """There is no permission to run the action.

    Attributes:
        code: the status of gRPC by name, such as `UNAVAILABLE`; empty if the error is not a status.
        reason: the reason by name, such as `STORE_UNAVAILABLE` (the contract lists them); empty if
            the error has none.
        field: the field of the request that must be corrected, such as `actor.user_id`; empty
            unless the error names one.
        retryable: whether the same request may succeed when it is sent again. A call that changes
            something may have changed it: read the state first, unless the call has a request id.
        retry_after: the shortest time until then; None if the server names none.
        details: what a program can act on, such as `next_step` of `ELEVATION_REQUIRED`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        field: str = "",
        retryable: bool = False,
        retry_after: timedelta | None = None,
        details: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field = field
        self.retryable = retryable
        self.retry_after = retry_after
        self.details = details


class NotAllowedError(StepUpError):
    """The action must not run: the person must give a code, approve a challenge, or enrol first.

    Attributes:
        answer: what the person must do.
    """

    def __init__(self, answer: StepUpRequired | EnrollmentRequired) -> None:
        super().__init__(
            f"{type(answer).__name__}: {answer.reason} (decision {answer.decision_id})",
            reason=answer.reason,
        )
        self.answer = answer


class NotApprovedError(StepUpError):
    """The person did not approve the challenge.

    Attributes:
        state: `DECLINED`, `CANCELLED`, `EXPIRED`; or `PENDING` if the time of the caller is over.
        challenge: the challenge as the server last described it.
    """

    def __init__(self, state: str, challenge: Challenge) -> None:
        super().__init__(f"challenge {challenge.challenge_id} is {state}", reason=state)
        self.state = state
        self.challenge = challenge


class UnavailableError(StepUpError):
    """There is no answer now: the server, or one of its stores, cannot be reached or is busy."""


class RequestError(StepUpError):
    """The server refuses the request: correct its fields, the credentials, or the permissions."""


class StateError(StepUpError):
    """The present state does not permit the call: see `reason` and `details`."""


class AnswerError(StepUpError):
    """The server failed, or the answer is not one that this client knows."""


_CLASSES: Final[Mapping[str, type[StepUpError]]] = {
    "CANCELLED": UnavailableError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
    "RESOURCE_EXHAUSTED": UnavailableError,
    "INVALID_ARGUMENT": RequestError,
    "OUT_OF_RANGE": RequestError,
    "UNAUTHENTICATED": RequestError,
    "PERMISSION_DENIED": RequestError,
    "UNIMPLEMENTED": RequestError,
    "FAILED_PRECONDITION": StateError,
    "ABORTED": StateError,
    "ALREADY_EXISTS": StateError,
    "NOT_FOUND": StateError,
}
_RETRYABLE: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"})
_DETAILS_KEY: Final = "grpc-status-details-bin"
_DAY: Final = 86_400
_DOMAIN: Final = "stepup"


def error_of(error: grpc.RpcError) -> StepUpError:
    """Return the error of the tree for an error of grpc. Raise it `from` that error."""
    call = cast("grpc.Call", error)  # errors of calls are both, which their types do not say
    code = call.code().name
    info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in _details(call):
        # Unpack() leaves a message alone if the detail is of another kind.
        _ = detail.Unpack(info) or detail.Unpack(bad_request) or detail.Unpack(retry)
    if info.domain != _DOMAIN:
        info = ErrorInfo()
    violations = bad_request.field_violations
    retry_after = None
    if retry.HasField("retry_delay"):
        retry_after = timedelta(seconds=min(max(retry.retry_delay.seconds, 0), _DAY)) + timedelta(
            microseconds=retry.retry_delay.nanos // 1000
        )
    return _CLASSES.get(code, AnswerError)(
        f"{code}: {call.details()}",
        code=code,
        reason=info.reason,
        field=violations[0].field if violations else "",
        retryable=code in _RETRYABLE or retry_after is not None,
        retry_after=retry_after,
        details=MappingProxyType(dict(info.metadata)),
    )


def _details(call: grpc.Call) -> Iterable[Any]:
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(Status.FromString(value).details)
            except DecodeError:  # a proxy wrote it: the status counts without its details
                break
    return ()
