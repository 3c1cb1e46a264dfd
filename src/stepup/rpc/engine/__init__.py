"""Engines carry gRPC calls: bytes and metadata in, bytes or a status out.

An engine knows HTTP/2, TLS, deadlines and flow control. It knows none of our messages. Both engines
keep one contract and pass one conformance suite (tests/rpc/engine):

- `aio` uses grpcio's public asyncio API and works with every grpcio
- `core` drains grpcio's completion queue itself and is several times as fast
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import grpc

from stepup.rpc.wire.errors import RefusedError, no_request


class Invocation:
    """A call as an engine receives it, before anything in it is believed.

    Metadata contain credentials. No repr shows them (S11).

    Args:
        peer: the address of the client as gRPC writes it: `ipv4:192.0.2.1:50000`.
        metadata: the key-value pairs of the request, keys in lower case.
    """

    __slots__ = ("metadata", "peer")

    def __init__(self, peer: str, metadata: Sequence[tuple[str, str | bytes]] = ()) -> None:
        self.peer = peer
        self.metadata = metadata

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What gRPC knows of the connection, by property name; with TLS, the client's certificate.

        This is costly, and works only until the call has ended.
        """
        return {}

    def header(self, key: str) -> str:
        """The first text value of a metadata key; empty if the key is absent."""
        for name, value in self.metadata:
            if name == key and isinstance(value, str):
                return value
        return ""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method with one request and one answer.

    If `answer` raises `RefusedError`, the call ends with its status. Calls of an `exempt` method
    take no place among the calls in flight (`CallLimits.exempt_in_flight`).
    """

    answer: Callable[[bytes, Invocation], Awaitable[bytes]]
    exempt: bool = False


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method with a stream of requests and a stream of answers; see `UnaryMethod`.

    A call of a method that `waits` has a place among the calls in flight until its first answer.
    From then on the call has a place of `CallLimits.waiting` instead, and may last for minutes.
    """

    answers: Callable[[AsyncIterator[bytes], Invocation], AsyncGenerator[bytes]]
    exempt: bool = False
    waits: bool = False


Methods: TypeAlias = Mapping[str, UnaryMethod | StreamMethod]
"""Methods by path: `/stepup.v1.StepUpService/CheckStepUp`."""

Options: TypeAlias = tuple[tuple[str, int | str], ...]
"""gRPC channel arguments."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How many calls an engine carries, and how long each may wait for its client (S26).

    A call beyond `in_flight` or `waiting` is refused. Beyond each other number, the engine ends the
    oldest calls of the network that has the most, so that one client cannot use up the places of
    others.

    Args:
        in_flight: calls whose message has arrived and whose answer is not sent.
        half_open: calls whose message has not arrived.
        unread: calls that have ended and whose last bytes the client has not read.
        exempt_in_flight: like `in_flight`, for exempt methods.
        waiting: calls of methods that wait, from their first answer on.
        message_seconds: the longest wait for a message, from the headers of the call or from the
            answer before the message.
        answer_seconds: the longest wait for a client to read an answer.
        metadata_bytes: the largest metadata of a call, as `metadata_size` counts. gRPC has the same
            limit, but accepts far more until the client has acknowledged the limit (SETTINGS).
    """

    in_flight: int = 1000
    half_open: int = 1000
    unread: int = 2000
    exempt_in_flight: int = 500
    waiting: int = 5000
    message_seconds: float = 5.0
    answer_seconds: float = 60.0
    metadata_bytes: int = 16 * 1024


class Engine(Protocol):
    """Serves methods in one process, on the running event loop.

    An engine MUST:

    - stop the work of a call when the client cancels it or its deadline passes
    - start no work for a call whose deadline has already passed
    - keep the limits of `CallLimits`: refuse calls beyond them with RESOURCE_EXHAUSTED, and end
      late ones with DEADLINE_EXCEEDED
    - answer UNIMPLEMENTED for an unknown method
    - survive any bytes on its port (S18)
    - end a call with INTERNAL if a handler raises anything but `RefusedError`, without sending any
      detail of the error
    """

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind an address before the start; return the port.

        Args:
            address: `host:port`, `[v6 host]:port` or `unix:path`.
            credentials: None serves plaintext.

        Raises:
            OSError: the address cannot be bound.
        """
        ...

    async def start(self) -> None:
        """Accept calls from now on."""
        ...

    async def stop(self, grace_seconds: float) -> None:
        """Send clients away, let calls in flight finish within the grace, and end the rest.

        It may be called before the start, and more than once.
        """
        ...


MakeEngine: TypeAlias = Callable[[Methods, Options, CallLimits], Engine]
"""Makes an engine."""


def metadata_size(metadata: Iterable[tuple[str, str | bytes]]) -> int:
    """The size of metadata in bytes, as HTTP/2 counts it (RFC 9113 §6.5.2)."""
    size = 0
    for key, value in metadata:
        size += len(key) + len(value) + 32
    return size


async def only(payloads: AsyncIterator[bytes]) -> bytes:
    """The first request of a stream.

    Raises:
        RefusedError: the client sent none.
    """
    payload = await anext(aiter(payloads), None)
    if payload is None:
        raise RefusedError(no_request())
    return payload


def is_task_cancelled(error: BaseException) -> bool:
    """Whether the current task raises an error because somebody cancelled the task.

    A handler also raises CancelledError if a task that it awaits is cancelled. Then the client
    still waits.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
