"""The engine on grpc.aio: public API only.

What it cannot do: a call whose handler has returned is out of its sight. So it does not bound the
calls whose answer nobody reads, nor the time that a client takes to read one; keepalive ends those
whose client is gone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import grpc

from stepup.rpc.engine import (
    CallLimits,
    Options,
    Served,
    Stream,
    Unary,
    is_abandoned,
    metadata_size,
)
from stepup.rpc.engine.waiting import Refusals, WaitingCalls
from stepup.rpc.pipeline.call import Invocation
from stepup.rpc.wire.errors import (
    RefusedError,
    Status,
    message_late,
    metadata_too_large,
    no_request,
    overloaded,
    to_status,
    unimplemented,
)

_Context = grpc.aio.ServicerContext[bytes, bytes]


class AioEngine:
    """Serves on grpc.aio; implements `Engine`."""

    def __init__(self, served: Served, options: Options, limits: CallLimits) -> None:
        # Without a bound of its own: grpc.aio counts calls before their message has arrived.
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Methods(served, _Calls(limits)),))
        self._stopping = asyncio.Lock()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind an address; returns the port.

        Raises:
            OSError: it cannot be bound.
        """
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error

    async def start(self) -> None:
        """Take calls from now on."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and let those in flight finish within the grace."""
        # One after the other: grpc.aio crashes when a second stop outlasts the first.
        async with self._stopping:
            await self._server.stop(grace_seconds)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a path. Without (de)serializers handlers get bytes (S18)."""

    def __init__(self, served: Served, calls: "_Calls") -> None:
        self._handlers = {path: _handler(method, calls) for path, method in served.items()}
        self._unknown: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            _unknown
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return self._handlers.get(handler_call_details.method, self._unknown)


class _Calls:
    """How many calls there are of each state; see `CallLimits`."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._refusals = Refusals()
        self._in_flight = 0
        self._half_open = WaitingCalls("half_open", limits.half_open, None, self._refusals)
        self._exempt = WaitingCalls("exempt", limits.exempt_in_flight, None, self._refusals)

    def demand_small(self, invocation: Invocation) -> None:
        """Refuse a call whose metadata are too large.

        Raises:
            RefusedError: they are.
        """
        if metadata_size(invocation.metadata) > self._limits.metadata_bytes:
            raise RefusedError(metadata_too_large())

    async def first_of(self, peer: str, payloads: AsyncIterator[bytes]) -> bytes | None:
        """The first message of a call; None where the client sends none.

        Raises:
            RefusedError: it has not arrived in time, or the call had to end for others.
        """
        async with self._ending_early(peer, self._half_open, self._limits.message_seconds):
            return await anext(aiter(payloads), None)

    async def from_first(
        self, peer: str, first: bytes | None, payloads: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The messages of a stream, the first of which has arrived.

        Raises:
            RefusedError: the next has not arrived in time.
        """
        payload = first
        while payload is not None:
            yield payload
            payload = await self.first_of(peer, payloads)

    @asynccontextmanager
    async def at_work(self, peer: str, *, exempt: bool) -> AsyncIterator[None]:
        """Hold a place while a block lasts.

        Raises:
            RefusedError: all are taken, or the call had to end for others.
        """
        if exempt:
            async with self._ending_early(peer, self._exempt, None):
                yield
        elif self._in_flight >= self._limits.in_flight:
            self._refusals.count("in_flight", peer)
            raise RefusedError(overloaded())
        else:
            self._in_flight += 1
            try:
                yield
            finally:
                self._in_flight -= 1

    @asynccontextmanager
    async def _ending_early(
        self, peer: str, calls: WaitingCalls, seconds: float | None
    ) -> AsyncIterator[None]:
        """Be one of some calls for as long as a block lasts, which is so many seconds at most."""
        try:
            async with asyncio.timeout(seconds) as timeout:
                call = _Waiting(peer, timeout)
                calls.add(call, asyncio.get_running_loop().time())
                try:
                    yield
                finally:
                    calls.discard(call)
        except TimeoutError:
            if not timeout.expired():
                raise
            if call.status is None:
                self._refusals.count("message_late", peer)
            raise RefusedError(call.status or message_late()) from None


class _Waiting:
    """A call of `WaitingCalls`."""

    def __init__(self, peer: str, timeout: asyncio.Timeout) -> None:
        self.peer = peer
        self.status: Status | None = None
        self._timeout = timeout

    def end_early(self, status: Status) -> None:
        """Interrupt what the call waits for."""
        if not self._timeout.expired():
            self.status = status
            self._timeout.reschedule(asyncio.get_running_loop().time())


def _handler(method: Unary | Stream, calls: _Calls) -> "grpc.RpcMethodHandler[bytes, bytes]":
    if isinstance(method, Unary):
        # As a stream of requests: grpc.aio leaves a client that sends none without an answer.
        return grpc.stream_unary_rpc_method_handler(partial(_unary, method, calls))
    return grpc.stream_stream_rpc_method_handler(partial(_stream, method, calls))


async def _unary(
    method: Unary, calls: _Calls, payloads: AsyncIterator[bytes], context: _Context
) -> bytes:
    invocation = _invocation(context)
    peer = invocation.peer()
    try:
        calls.demand_small(invocation)
        payload = await calls.first_of(peer, payloads)
        if payload is not None:
            async with calls.at_work(peer, exempt=method.exempt):
                return await method.answer(payload, invocation)
    except (Exception, asyncio.CancelledError) as error:
        if is_abandoned(error):
            raise
        return await _abort(context, to_status(error))
    return await _abort(context, no_request())


async def _stream(
    method: Stream, calls: _Calls, payloads: AsyncIterator[bytes], context: _Context
) -> None:
    invocation = _invocation(context)
    peer = invocation.peer()
    try:
        calls.demand_small(invocation)
        first = await calls.first_of(peer, payloads)
        requests = calls.from_first(peer, first, payloads)
        async with (
            calls.at_work(peer, exempt=method.exempt),
            aclosing(method.answers(requests, invocation)) as responses,
        ):
            async for response in responses:
                await context.write(response)
    except (Exception, asyncio.CancelledError) as error:
        if is_abandoned(error):
            raise
        await _abort(context, to_status(error))


async def _unknown(_payloads: AsyncIterator[bytes], context: _Context) -> None:
    await _abort(context, unimplemented())


def _invocation(context: _Context) -> Invocation:
    # Asked at once: once the call has ended, the question would end the process. What asks late is
    # a generator that is cleaned up after its call.
    peer = context.peer()
    return Invocation(
        lambda: peer, tuple(context.invocation_metadata() or ()), context.auth_context
    )


async def _abort(context: _Context, status: Status) -> bytes:
    return await context.abort(status.code, status.message, status.trailers)
