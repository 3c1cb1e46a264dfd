"""What carries gRPC calls: bytes and metadata in, bytes or a status out.

An engine knows HTTP/2, TLS, deadlines and flow control; it knows no message of ours. There are two,
with one promise, and one conformance suite (tests/rpc/engine) that both pass:

- `aio`, on grpcio's public asyncio API: works with every grpcio
- `core`, which drains grpcio's completion queue itself: several times as fast
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import grpc

from stepup.rpc.pipeline.call import Invocation
from stepup.rpc.wire.errors import RefusedError, no_request


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `answer` may raise `RefusedError`; the call ends with its status.

    Calls of an `exempt` method hold no place among the calls in flight (`exempt_in_flight`).
    """

    answer: Callable[[bytes, Invocation], Awaitable[bytes]]
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of requests, often of one, and a stream of answers; the rest as with `Unary`."""

    answers: Callable[[AsyncIterator[bytes], Invocation], AsyncGenerator[bytes]]
    exempt: bool = False


Served: TypeAlias = Mapping[str, Unary | Stream]
"""Methods by path: `/stepup.v1.StepUpService/CheckStepUp`."""

Options: TypeAlias = tuple[tuple[str, int | str], ...]
"""gRPC channel arguments."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls an engine carries, and how long each may wait for its client (S26).

    Beyond `in_flight` a call is refused. Beyond each of the other numbers the oldest calls of the
    network that has the most end instead, so that one client cannot use them up for others.

    Args:
        in_flight: calls at work: their message has arrived, their answer has not left.
        half_open: calls whose message has not arrived.
        unread: calls that have ended, and whose last bytes wait for their client to read.
        exempt_in_flight: calls at work of exempt methods.
        message_seconds: within which a message has to arrive, from the call's headers on, or from
            the answer before it.
        answer_seconds: within which a client has to take an answer.
        metadata_bytes: how large the metadata of a call may be, as `metadata_size` counts. gRPC has
            the same limit, but until a client acknowledges it (SETTINGS) takes far more.
    """

    in_flight: int = 1000
    half_open: int = 1000
    unread: int = 2000
    exempt_in_flight: int = 500
    message_seconds: float = 5.0
    answer_seconds: float = 60.0
    metadata_bytes: int = 16 * 1024


class Engine(Protocol):
    """A server of methods, in one process, on the running event loop.

    It MUST stop the work of a call that its client has given up or whose deadline has passed, and
    begin none for one whose deadline has passed before its turn; keep the limits of `CallLimits`,
    and refuse calls beyond them with RESOURCE_EXHAUSTED, overdue ones with DEADLINE_EXCEEDED;
    answer a method that is not served with UNIMPLEMENTED; and outlive any bytes on its port (S18).
    What a handler raises that is no `RefusedError` ends the call with INTERNAL, and no word of it
    leaves the process.
    """

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind an address, `host:port` or `[v6 host]:port`, before the start; returns the port.

        Raises:
            OSError: it cannot be bound.
        """
        ...

    async def start(self) -> None:
        """Take calls from now on."""
        ...

    async def stop(self, grace_seconds: float) -> None:
        """Tell clients to go elsewhere, let calls in flight finish within the grace, end the rest.

        Also before the start, and more than once.
        """
        ...


MakeEngine: TypeAlias = Callable[[Served, Options, CallLimits], Engine]
"""Makes an engine of methods, options and limits."""


def metadata_size(metadata: Iterable[tuple[str, str | bytes]]) -> int:
    """The size of metadata in bytes, as HTTP/2 counts it (RFC 9113 §6.5.2)."""
    return sum(len(key) + len(value) + 32 for key, value in metadata)


async def only(payloads: AsyncIterator[bytes]) -> bytes:
    """The request of a method that takes one.

    Raises:
        RefusedError: the client sent none.
    """
    payload = await anext(aiter(payloads), None)
    if payload is None:
        raise RefusedError(no_request())
    return payload


def is_abandoned(error: BaseException) -> bool:
    """Whether an error of a handler says no more than that its work was stopped.

    A handler may be cancelled by what it waits for as well: then its client still waits.
    """
    work = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and work is not None and work.cancelling() > 0
