"""The road of every call: admit the caller, decode, handle, encode, and write the finish line.

The pipeline is plain function composition without any gRPC engine: an engine passes bytes and an
`Invocation`, and gets bytes or a `RefusedError` back.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import count
from secrets import randbits
from typing import TypeAlias

from google.protobuf.message import Message

from stepup.domain.actor import MAX_ID_BYTES
from stepup.domain.portal import REDEEM
from stepup.rpc.engine import Invocation
from stepup.rpc.pipeline.call import AdmittedCaller, Authorization, Call, Method
from stepup.rpc.pipeline.call_ends import count_call, end_span
from stepup.rpc.pipeline.finish_lines import FinishLines
from stepup.rpc.pipeline.portal_calls import SESSION_METADATA, PortalCalls
from stepup.rpc.wire.decode import decoded, fold_ids
from stepup.rpc.wire.errors import RefusedError, to_status
from stepup.service.calls.limits import CallerLimits
from stepup.service.calls.refused_claims import RefusedClaims
from stepup.service.policy.known_tenants import KnownTenants
from stepup.service.ports import Clock
from stepup.telemetry.spans import CallSpan, TraceParent, at_hand, trace_parent_of

Admit: TypeAlias = Callable[[Invocation], Awaitable[AdmittedCaller]]
"""Finds the caller by its credentials, never by the message (S15)."""
BeginSpan: TypeAlias = Callable[[str, TraceParent | None, int], CallSpan | None]
"""Begins the span of a call, from the method, the parent and the receipt in nanoseconds since 1970;
returns None if the trace is not recorded."""


class Pipeline:
    """Takes calls of any method from bytes to bytes.

    Without `begin_span` it records no spans. `fold_case` folds the ids of tenants and users to
    lower case.
    """

    def __init__(
        self,
        admit: Admit,
        refused_claims: RefusedClaims,
        limits: CallerLimits,
        known_tenants: KnownTenants,
        clock: Clock,
        *,
        portal_calls: PortalCalls,
        begin_span: BeginSpan | None = None,
        fold_case: bool = False,
    ) -> None:
        self._admit = admit
        self._portal_calls = portal_calls
        self._authorization = Authorization(limits, known_tenants, refused_claims)
        self._fold_case = fold_case
        self._clock = clock
        self._begin_span = begin_span
        self.finish_lines = FinishLines(clock)
        # Counted from a random number, because random bits for each call cost a system call each.
        self._request_numbers = count(randbits(127))

    async def unary(self, method: Method, payload: bytes, invocation: Invocation) -> bytes:
        """Answer a call.

        Raises:
            RefusedError: the call ends with a status instead of an answer.
        """
        call = self._receive(method, invocation)
        try:
            await self._admit_caller(call)
            request = self._decode(method, payload)
            if call.names_portal or call.admitted.caller.is_portal or method.path == REDEEM:
                await self._enter_portal(call, request)
            response = await method.handler(request, call)
            answer: bytes = response.SerializeToString()
        except BaseException as error:
            self._end_with(call, error)
            raise
        self._end(call, "OK")
        return answer

    async def stream(
        self, method: Method, payload: bytes, invocation: Invocation
    ) -> AsyncGenerator[bytes]:
        """Answer a call with a stream.

        Raises:
            RefusedError: the stream ends with a status instead, before or after messages.
        """
        call = self._receive(method, invocation)
        try:
            await self._admit_caller(call)
            request = self._decode(method, payload)
            if call.names_portal or call.admitted.caller.is_portal:
                await self._enter_portal(call, request)
            responses = method.handler(request, call)
            async with aclosing(responses):
                async for response in responses:
                    if call.portal is not None:
                        await self._portal_calls.demand_live(call.portal, self._clock.now())
                    answer = response.SerializeToString()
                    del response  # the next one may come after minutes (S18)
                    yield answer
                    del answer
        except BaseException as error:
            self._end_with(call, error)
            raise
        self._end(call, "OK")

    def _receive(self, method: Method, invocation: Invocation) -> Call:
        request_id, names_portal = "", False
        for name, value in invocation.metadata:  # each look-up of its own is a Python call
            if name == "x-request-id" and not request_id and isinstance(value, str):
                request_id = value
            elif name == SESSION_METADATA:
                names_portal = True
        usable = 0 < len(request_id) <= MAX_ID_BYTES and request_id.isascii()
        if not (usable and request_id.isprintable()):
            request_id = f"{next(self._request_numbers):032x}"
        call = Call(method, invocation, self._clock.now(), request_id, self._authorization)
        call.names_portal = names_portal
        return call

    async def _admit_caller(self, call: Call) -> None:
        parent = trace_parent_of(call.invocation.metadata)
        if parent is not None:
            call.trace_id = parent.trace_id
        call.admitted = await self._admit(call.invocation)
        call.caller_id = call.admitted.caller.caller_id
        call.admitted.caller.demand_method(call.method.path)
        if self._begin_span is not None:
            # Not before the caller is admitted: a flood of others would push the spans of callers
            # out of the queue (S18).
            call.span = self._begin_span(call.method.full_name, parent, call.received_ns)
            if call.span is not None:
                call.trace_id = call.span.trace_id
                at_hand.set(call.span)

    def _decode(self, method: Method, payload: bytes) -> Message:
        request = decoded(method.request, payload)
        if self._fold_case:
            fold_ids(request)
        return request

    async def _enter_portal(self, call: Call, request: Message) -> None:
        """Bring the person of the call's portal session into its request (S20)."""
        caller, method = call.admitted.caller, call.method.path
        call.portal = await self._portal_calls.find(
            caller, method, call.invocation, call.received_at
        )
        if call.portal is not None:
            await self._portal_calls.bring_in(call.portal, caller, method, request)

    def _end_with(self, call: Call, error: BaseException) -> None:
        """End a call that an error has stopped, and raise its status if anybody still waits."""
        if isinstance(error, Exception):
            status = to_status(error, call.request_id)
            self._end(call, status.code.name, status.reason)
            raise RefusedError(status) from error
        # CancelledError or, in a stream, GeneratorExit.
        self._end(call, "CANCELLED")

    def _end(self, call: Call, code: str, reason: str | None = None) -> None:
        """Count a call, write its finish line, and end its span. The payload is in none (S11)."""
        seconds = time.perf_counter() - call.began
        count_call(call.method, call.caller_id, code, seconds)
        portal = {} if call.portal is None else call.portal.fields
        line = {
            "method": call.method.full_name,
            "request_id": call.request_id,
            "trace_id": call.trace_id,
            "peer": call.invocation.peer,
            "caller": call.caller_id,
            "code": code,
            "reason": reason,
            "duration_ms": round(seconds * 1000, 3),
            **portal,
            **call.conclusion,
        }
        self.finish_lines.write(line, has_concluded=bool(call.conclusion))
        if call.span is not None:
            at_hand.set(None)
            end_span(call.span, line)
