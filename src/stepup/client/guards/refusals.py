"""How guards refuse a call, over gRPC and over HTTP.

gRPC: FAILED_PRECONDITION with `google.rpc.ErrorInfo` of the domain `stepup`, reason
`STEP_UP_REQUIRED` or `ENROLLMENT_REQUIRED`; metadata `operation`, `decision_id`, `max_age` (in
seconds, if there is one) and `challenge` (`true` if only a challenge helps). UNAVAILABLE, reason
`NO_DECISION`, if there is no decision.

HTTP: 401 with `WWW-Authenticate: Bearer error="insufficient_user_authentication"` (RFC 9470 §3) and
a problem document (RFC 9457) with the same facts. 503 if there is no decision.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from stepup.client.answers import Allowed, EnrollmentRequired, StepUpRequired
from stepup.client.errors import StepUpError

if TYPE_CHECKING:
    from stepup.client import AsyncStepUpClient, StepUpClient
    from stepup.client.guards.gates import Gate
    from stepup.v1.actor_pb2 import ActorContext

ACR: Final = "urn:stepup:acr:otp"
"""The authentication context that a one-time code reaches."""
Refused: TypeAlias = StepUpRequired | EnrollmentRequired | StepUpError
"""Why a guard refuses a call: what the person must do, or the error instead of an answer."""

_TITLES: Final = {
    "STEP_UP_REQUIRED": "A one-time code is required",
    "ENROLLMENT_REQUIRED": "An authenticator is required",
    "NO_DECISION": "There is no decision at the moment",
}


def answer_to(
    client: StepUpClient, actor: Callable[[Any], ActorContext], gate: Gate, request: Any
) -> Allowed | Refused:
    """Ask whether a request may pass a gate; an error of the client is a refusal."""
    try:
        return client.check(actor(request), gate.operation, target=gate.target_of(request))
    except StepUpError as error:
        return error


async def async_answer_to(
    client: AsyncStepUpClient,
    actor: Callable[[Any], ActorContext | Awaitable[ActorContext]],
    gate: Gate,
    request: Any,
) -> Allowed | Refused:
    """As `answer_to`; `actor` may be a coroutine function."""
    try:
        person = actor(request)
        if inspect.isawaitable(person):
            person = await person
        return await client.check(person, gate.operation, target=gate.target_of(request))
    except StepUpError as error:
        return error


def facts_of(refused: Refused, operation: str) -> dict[str, Any]:
    """Return what a console needs to know of a refusal, without texts of the service.

    `reason` and `operation` are always present; `decision_id`, `rule`, `max_age` in seconds,
    `challenge` and `detail` if they are known.
    """
    if isinstance(refused, StepUpError):
        return {"reason": "NO_DECISION", "operation": operation}
    facts: dict[str, Any] = {
        "reason": (
            "STEP_UP_REQUIRED" if isinstance(refused, StepUpRequired) else "ENROLLMENT_REQUIRED"
        ),
        "operation": operation,
        "decision_id": refused.decision_id,
        "rule": refused.reason,
        "challenge": refused.needs_challenge,
    }
    if refused.max_age is not None:
        facts["max_age"] = int(refused.max_age.total_seconds())
    if isinstance(refused, StepUpRequired) and refused.detail:
        facts["detail"] = refused.detail
    return facts


@dataclass(frozen=True)
class GrpcRefusal:
    """The status that ends a call. `trailers` have the details."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, bytes], ...]


def grpc_refusal(refused: Refused, operation: str) -> GrpcRefusal:
    """Return the status of a refused call."""
    facts = facts_of(refused, operation)
    reason = facts.pop("reason")
    info = ErrorInfo(
        domain="stepup",
        reason=reason,
        metadata={name: _text(value) for name, value in facts.items()},
    )
    code = grpc.StatusCode.FAILED_PRECONDITION
    details = [info]
    if isinstance(refused, StepUpError):
        code = grpc.StatusCode.UNAVAILABLE
    status = Status(code=code.value[0], message=_TITLES[reason])
    for detail in (*details, *_retry(refused)):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    return GrpcRefusal(code, _TITLES[reason], trailers)


@dataclass(frozen=True)
class HttpRefusal:
    """The response to a refused request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def http_refusal(refused: Refused, operation: str) -> HttpRefusal:
    """Return the response to a refused request."""
    facts = facts_of(refused, operation)
    reason = facts.pop("reason")
    headers = [("content-type", "application/problem+json"), ("cache-control", "no-store")]
    if isinstance(refused, StepUpError):
        status = 503
        if refused.retry_after is not None:
            headers.append(("retry-after", str(math.ceil(refused.retry_after.total_seconds()))))
    else:
        status = 401
        headers.append(("www-authenticate", _authenticate(facts, _TITLES[reason])))
    # RFC 9457 gives `detail` another meaning.
    cause = facts.pop("detail", None)
    problem = {
        "type": f"urn:stepup:problem:{reason.lower().replace('_', '-')}",
        "title": _TITLES[reason],
        "status": status,
        **facts,
        **({"cause": cause} if cause else {}),
    }
    return HttpRefusal(status, tuple(headers), json.dumps(problem).encode())


def _authenticate(facts: dict[str, Any], description: str) -> str:
    parameters = {
        "error": "insufficient_user_authentication",
        "error_description": description,
        "acr_values": ACR,
    }
    if "max_age" in facts:
        parameters["max_age"] = str(facts["max_age"])
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def _retry(refused: Refused) -> list[RetryInfo]:
    if not isinstance(refused, StepUpError) or refused.retry_after is None:
        return []
    info = RetryInfo()
    info.retry_delay.FromTimedelta(refused.retry_after)
    return [info]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
