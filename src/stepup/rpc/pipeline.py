"""The road of every call: identify the caller, decode, handle, encode; errors become status.

Plain function composition, and nothing of a gRPC engine in it: an engine hands over bytes and
metadata, and gets bytes or a `RefusedError` back.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import structlog
from google.protobuf.message import Message

from stepup.domain.actor import MAX_ID_BYTES
from stepup.rpc.call import Admitted, Call, Invocation
from stepup.rpc.convert import decoded
from stepup.rpc.errors import RefusedError, to_status
from stepup.service.caller_limits import CallerLimits
from stepup.service.ports import Clock
from stepup.service.refused_claims import RefusedClaims

UnaryHandler: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
StreamHandler: TypeAlias = Callable[[Any, Call], AsyncIterator[Message]]
Admit: TypeAlias = Callable[[Invocation], Awaitable[Admitted]]
"""Names the caller by its credentials, never by what it says in the message (S15)."""

_log = structlog.get_logger(__name__)


def path_of(service: str, name: str) -> str:
    """What rules call a method: `StepUpService/CheckStepUp`."""
    return f"{service.rpartition('.')[2]}/{name}"


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method that answers once."""

    service: str
    name: str
    request: type[Message]
    handler: UnaryHandler

    @property
    def path(self) -> str:
        """What rules call it."""
        return path_of(self.service, self.name)


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method that answers with a stream."""

    service: str
    name: str
    request: type[Message]
    handler: StreamHandler

    @property
    def path(self) -> str:
        """What rules call it."""
        return path_of(self.service, self.name)


Method: TypeAlias = UnaryMethod | StreamMethod


class Pipeline:
    """Takes calls of any method from bytes to bytes."""

    def __init__(
        self, admit: Admit, refused_claims: RefusedClaims, limits: CallerLimits, clock: Clock
    ) -> None:
        self._admit = admit
        self._refused_claims = refused_claims
        self._limits = limits
        self._clock = clock

    async def unary(self, method: UnaryMethod, payload: bytes, invocation: Invocation) -> bytes:
        """Answer a call.

        Raises:
            RefusedError: the call ends with a status instead.
        """
        with self._concluded(method, invocation) as admit:
            call = await admit()
            response = await method.handler(decoded(method.request, payload), call)
            return response.SerializeToString()

    async def stream(
        self, method: StreamMethod, payload: bytes, invocation: Invocation
    ) -> AsyncIterator[bytes]:
        """Answer a call with a stream.

        Raises:
            RefusedError: the stream ends with a status instead, before or after messages.
        """
        with self._concluded(method, invocation) as admit:
            call = await admit()
            async for response in method.handler(decoded(method.request, payload), call):
                yield response.SerializeToString()

    @contextmanager
    def _concluded(
        self, method: Method, invocation: Invocation
    ) -> Iterator[Callable[[], Awaitable[Call]]]:
        """Turn errors into a status, and write the finish line; the payload is in neither (S11)."""
        received_at = self._clock.now()
        began = time.perf_counter()
        request_id = _request_id(invocation)
        caller, code, reason = None, "OK", None

        async def admit() -> Call:
            nonlocal caller
            admitted = await self._admit(invocation)
            caller = admitted.caller.caller_id
            admitted.caller.demand_method(method.path)
            return Call(
                admitted,
                method.path,
                received_at,
                request_id,
                self._refused_claims,
                self._limits,
            )

        try:
            yield admit
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except Exception as error:
            status = to_status(error, request_id)
            code, reason = status.code.name, status.reason
            raise RefusedError(status) from error
        finally:
            _log.info(
                "call",
                method=f"{method.service}/{method.name}",
                request_id=request_id,
                peer=invocation.peer(),
                caller=caller,
                code=code,
                reason=reason,
                duration_ms=round((time.perf_counter() - began) * 1000, 3),
            )


def _request_id(invocation: Invocation) -> str:
    given = invocation.header("x-request-id")
    usable = 0 < len(given) <= MAX_ID_BYTES and given.isascii() and given.isprintable()
    return given if usable else str(uuid4())
