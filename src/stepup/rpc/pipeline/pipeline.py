"""The road of every call: identify the caller, decode, handle, encode; errors become status.

Plain function composition, and nothing of a gRPC engine in it: an engine hands over bytes and
metadata, and gets bytes or a `RefusedError` back.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import count
from secrets import randbits
from types import TracebackType
from typing import Any, Self, TypeAlias

from google.protobuf.message import Message

from stepup.domain.actor import MAX_ID_BYTES, CallerId
from stepup.rpc.pipeline.call import Admitted, Call, Conclusion, Invocation
from stepup.rpc.pipeline.call_metrics import count_call
from stepup.rpc.pipeline.call_span import end_span
from stepup.rpc.pipeline.finish_lines import FinishLines
from stepup.rpc.wire.decode import decoded, fold_ids
from stepup.rpc.wire.errors import RefusedError, to_status
from stepup.service.calls.caller_limits import CallerLimits
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.service.policy.known_tenants import KnownTenants
from stepup.service.ports import Clock
from stepup.telemetry.spans import CallSpan, at_hand
from stepup.telemetry.trace_parent import TraceParent, trace_parent_of

UnaryHandler: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
StreamHandler: TypeAlias = Callable[[Any, Call], AsyncIterator[Message]]
Admit: TypeAlias = Callable[[Invocation], Awaitable[Admitted]]
"""Names the caller by its credentials, never by what it says in the message (S15)."""
BeginSpan: TypeAlias = Callable[[str, TraceParent | None, int], CallSpan | None]
"""Begins the span of a call of a method that was received at so many nanoseconds since 1970; None
where its trace is not recorded."""


def path_of(service: str, name: str) -> str:
    """What rules call a method: `StepUpService/CheckStepUp`."""
    return f"{service.rpartition('.')[2]}/{name}"


@dataclass(frozen=True)
class _Method:
    service: str
    name: str
    request: type[Message]

    @cached_property
    def path(self) -> str:
        """What rules call it."""
        return path_of(self.service, self.name)

    @cached_property
    def full_name(self) -> str:
        """What the log calls it: `stepup.v1.StepUpService/CheckStepUp`."""
        return f"{self.service}/{self.name}"


@dataclass(frozen=True)
class UnaryMethod(_Method):
    """A method that answers once."""

    handler: UnaryHandler


@dataclass(frozen=True)
class StreamMethod(_Method):
    """A method that answers with a stream."""

    handler: StreamHandler


Method: TypeAlias = UnaryMethod | StreamMethod


class Pipeline:
    """Takes calls of any method from bytes to bytes."""

    def __init__(
        self,
        admit: Admit,
        refused_claims: RefusedClaims,
        limits: CallerLimits,
        known_tenants: KnownTenants,
        clock: Clock,
        *,
        begin_span: BeginSpan | None = None,
        fold_case: bool = False,
    ) -> None:
        self._admit = admit
        self._refused_claims = refused_claims
        self._limits = limits
        self._known_tenants = known_tenants
        self._fold_case = fold_case
        self._clock = clock
        self._begin_span = begin_span
        self.finish_lines = FinishLines(clock)
        # Counted on from a random number: one from the kernel for each call costs a system call.
        self._request_ids = (f"{number:032x}" for number in count(randbits(127)))

    async def unary(self, method: UnaryMethod, payload: bytes, invocation: Invocation) -> bytes:
        """Answer a call.

        Raises:
            RefusedError: the call ends with a status instead.
        """
        with self._under_way(method, invocation) as under_way:
            call = await self._admitted(under_way)
            response = await method.handler(self._decoded(method, payload), call)
            return response.SerializeToString()

    async def stream(
        self, method: StreamMethod, payload: bytes, invocation: Invocation
    ) -> AsyncIterator[bytes]:
        """Answer a call with a stream.

        Raises:
            RefusedError: the stream ends with a status instead, before or after messages.
        """
        with self._under_way(method, invocation) as under_way:
            call = await self._admitted(under_way)
            async for response in method.handler(self._decoded(method, payload), call):
                yield response.SerializeToString()

    def _decoded(self, method: Method, payload: bytes) -> Message:
        request = decoded(method.request, payload)
        if self._fold_case:
            fold_ids(request)
        return request

    def _under_way(self, method: Method, invocation: Invocation) -> "_UnderWay":
        request_id = _given_request_id(invocation) or next(self._request_ids)
        return _UnderWay(
            method,
            invocation,
            self._clock.now(),
            request_id,
            begin_span=self._begin_span,
            finish_lines=self.finish_lines,
        )

    async def _admitted(self, under_way: "_UnderWay") -> Call:
        admitted = await self._admit(under_way.invocation)
        under_way.caller = admitted.caller.caller_id
        method = under_way.method.path
        admitted.caller.demand_method(method)
        under_way.begin_span()
        return Call(
            admitted,
            method,
            under_way.received_at,
            under_way.request_id,
            self._refused_claims,
            self._limits,
            self._known_tenants,
            under_way.conclusion,
        )


class _UnderWay:
    """A call from its receipt to its finish line; an error ends it with a status.

    It has a span of its own, if its caller is admitted and its trace is recorded: anybody can ask
    for a trace, and a flood would push the spans of callers out of the queue (S18). The payload is
    in none of them (S11).
    """

    __slots__ = (
        "_began",
        "_begin_span",
        "_finish_lines",
        "_parent",
        "_received_ns",
        "_span",
        "_trace_id",
        "caller",
        "conclusion",
        "invocation",
        "method",
        "received_at",
        "request_id",
    )

    def __init__(
        self,
        method: Method,
        invocation: Invocation,
        received_at: datetime,
        request_id: str,
        *,
        begin_span: BeginSpan | None,
        finish_lines: FinishLines,
    ) -> None:
        self._began = time.perf_counter()
        self.method = method
        self.invocation = invocation
        self.received_at = received_at
        self.request_id = request_id
        self.caller: CallerId | None = None
        self.conclusion: dict[str, Conclusion] = {}
        self._begin_span = begin_span
        self._received_ns = time.time_ns()
        self._span: CallSpan | None = None
        self._finish_lines = finish_lines
        self._parent = trace_parent_of(invocation.metadata)
        self._trace_id = None if self._parent is None else self._parent.trace_id

    def __enter__(self) -> Self:
        return self

    def begin_span(self) -> None:
        """Begin the span of the call, as of its receipt; what follows in the call is part of it."""
        if self._begin_span is None:
            return
        self._span = self._begin_span(self.method.full_name, self._parent, self._received_ns)
        if self._span is not None:
            self._trace_id = self._span.trace_id
            at_hand.set(self._span)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish("OK")
        elif isinstance(error, Exception):
            status = to_status(error, self.request_id)
            self._finish(status.code.name, status.reason)
            raise RefusedError(status) from error
        else:  # the call was given up: CancelledError, or GeneratorExit in a stream
            self._finish("CANCELLED")

    def _finish(self, code: str, reason: str | None = None) -> None:
        seconds = time.perf_counter() - self._began
        count_call(self.method.path, self.caller, code, seconds)
        line = {
            "method": self.method.full_name,
            "request_id": self.request_id,
            "trace_id": self._trace_id,
            "peer": self.invocation.peer(),
            "caller": self.caller,
            "code": code,
            "reason": reason,
            "duration_ms": round(seconds * 1000, 3),
            **self.conclusion,
        }
        self._finish_lines.write(line, has_concluded=bool(self.conclusion))
        if self._span is not None:
            at_hand.set(None)
            end_span(self._span, line)


def _given_request_id(invocation: Invocation) -> str:
    """What the caller calls it by; empty when that is not usable."""
    given = invocation.header("x-request-id")
    usable = len(given) <= MAX_ID_BYTES and given.isascii() and given.isprintable()
    return given if usable else ""
