"""What carries gRPC calls: bytes and metadata in, bytes or a status out.

An engine knows HTTP/2, TLS, deadlines and flow control; it knows no message of ours. There are two,
with one promise, and one conformance suite (tests/rpc/engine) that both pass:

- `aio`, on grpcio's public asyncio API: works with every grpcio
- `core`, which drains grpcio's completion queue itself: several times as fast
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import grpc

from stepup.rpc.call import Invocation
from stepup.rpc.errors import RefusedError, no_request


@dataclass(frozen=True, slots=True)
class Unary:
    """One request, one answer. `answer` may raise `RefusedError`; the call ends with its status."""

    answer: Callable[[bytes, Invocation], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of requests, often of one, and a stream of answers; errors as with `Unary`."""

    answers: Callable[[AsyncIterator[bytes], Invocation], AsyncGenerator[bytes]]


Served: TypeAlias = Mapping[str, Unary | Stream]
"""Methods by path: `/stepup.v1.StepUpService/CheckStepUp`."""

Options: TypeAlias = tuple[tuple[str, int | str], ...]
"""gRPC channel arguments."""


class Engine(Protocol):
    """A server of methods, in one process, on the running event loop.

    It MUST stop the work of a call that its client has given up or whose deadline has passed, and
    begin none for one whose deadline has passed before its turn; bound the calls in flight, and
    refuse those beyond with RESOURCE_EXHAUSTED; answer a method that is not served with
    UNIMPLEMENTED; and outlive any bytes on its port (S18). What a handler raises that is no
    `RefusedError` ends the call with INTERNAL, and no word of it leaves the process.
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


MakeEngine: TypeAlias = Callable[[Served, Options, int], Engine]
"""Makes an engine of methods, options, and how many calls may be in flight."""


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
