"""The engine on grpc.aio: public API only.

grpc.aio hides a call whose handler has returned. So this engine limits neither the number of unread
answers nor the time that a client takes to read one. Keepalive ends the calls of clients that are
gone.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from functools import partial

import grpc

from stepup.rpc.engine import (
    CallLimits,
    Invocation,
    Methods,
    Options,
    StreamMethod,
    UnaryMethod,
    is_task_cancelled,
    metadata_size,
)
from stepup.rpc.engine.waiting import Refusals, WaitingCalls
from stepup.rpc.wire.errors import (
    RefusedError,
    Status,
    message_late,
    metadata_too_large,
    no_request,
    overloaded,
    to_status,
    too_many_wait,
    unimplemented,
)

_Context = grpc.aio.ServicerContext[bytes, bytes]


class AioEngine:
    """Serves on grpc.aio; see `Engine`."""

    def __init__(self, methods: Methods, options: Options, limits: CallLimits) -> None:
        # Without the limit of grpc.aio, which counts calls before their message has arrived.
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_Handlers(methods, _Calls(limits)),))
        self._stopping = asyncio.Lock()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        # One at a time: grpc.aio crashes when a second stop outlasts the first.
        async with self._stopping:
            await self._server.stop(grace_seconds)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a path. Handlers without (de)serializers get bytes (S18)."""

    def __init__(self, methods: Methods, calls: "_Calls") -> None:
        self._handlers = {path: _handler(method, calls) for path, method in methods.items()}
        self._unknown: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            _unknown
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return self._handlers.get(handler_call_details.method, self._unknown)


class _Calls:
    """Counts the calls of each state; see `CallLimits`."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._refusals = Refusals()
        self._in_flight = 0
        self._waiting = 0
        self._half_open = WaitingCalls("half_open", limits.half_open, None, self._refusals)
        self._exempt = WaitingCalls("exempt", limits.exempt_in_flight, None, self._refusals)

    def require_small_metadata(self, invocation: Invocation) -> None:
        """Refuse a call whose metadata are too large."""
        if metadata_size(invocation.metadata) > self._limits.metadata_bytes:
            raise RefusedError(metadata_too_large())

    async def first_of(self, peer: str, payloads: AsyncIterator[bytes]) -> bytes | None:
        """Wait for the first message of a call, within limits; None if the client sends none."""
        async with self._patiently(peer, self._half_open, self._limits.message_seconds):
            return await anext(aiter(payloads), None)

    async def from_first(
        self, peer: str, first: bytes | None, payloads: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """The messages of a stream whose first one has arrived; each later one has a time limit."""
        payload = first
        while payload is not None:
            yield payload
            payload = await self.first_of(peer, payloads)

    @asynccontextmanager
    async def at_work(self, peer: str, *, exempt: bool) -> AsyncIterator[None]:
        """Take a place while the block runs; refuse the call if no place is free."""
        if exempt:
            async with self._patiently(peer, self._exempt, None):
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

    @contextmanager
    def waiting(self, peer: str) -> Iterator[None]:
        """Take a place to wait while the block runs; refuse the call if no place is free."""
        if self._waiting >= self._limits.waiting:
            self._refusals.count("waiting", peer)
            raise RefusedError(too_many_wait())
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _patiently(
        self, peer: str, calls: WaitingCalls, seconds: float | None
    ) -> AsyncIterator[None]:
        """Count as one of `calls` while the block runs, for at most so many seconds."""
        try:
            async with asyncio.timeout(seconds) as timeout:
                call = _InterruptibleCall(peer, timeout)
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


class _InterruptibleCall:
    """A call that waits; see `WaitingCall`."""

    def __init__(self, peer: str, timeout: asyncio.Timeout) -> None:
        self.peer = peer
        self.status: Status | None = None
        self._timeout = timeout

    def end_early(self, status: Status) -> None:
        if not self._timeout.expired():
            self.status = status
            self._timeout.reschedule(asyncio.get_running_loop().time())


def _handler(
    method: UnaryMethod | StreamMethod, calls: _Calls
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    if isinstance(method, UnaryMethod):
        # As a stream of requests: grpc.aio does not answer a client that sends no message.
        return grpc.stream_unary_rpc_method_handler(partial(_unary, method, calls))
    return grpc.stream_stream_rpc_method_handler(partial(_stream, method, calls))


async def _unary(
    method: UnaryMethod, calls: _Calls, payloads: AsyncIterator[bytes], context: _Context
) -> bytes:
    invocation = _AioInvocation(context)
    peer = invocation.peer
    try:
        calls.require_small_metadata(invocation)
        payload = await calls.first_of(peer, payloads)
        if payload is not None:
            async with calls.at_work(peer, exempt=method.exempt):
                return await method.answer(payload, invocation)
    except (Exception, asyncio.CancelledError) as error:
        if is_task_cancelled(error):
            raise
        return await _abort(context, to_status(error))
    return await _abort(context, no_request())


async def _stream(
    method: StreamMethod, calls: _Calls, payloads: AsyncIterator[bytes], context: _Context
) -> None:
    invocation = _AioInvocation(context)
    peer = invocation.peer
    try:
        calls.require_small_metadata(invocation)
        first = await calls.first_of(peer, payloads)
        requests = calls.from_first(peer, first, payloads)
        async with AsyncExitStack() as place:
            await place.enter_async_context(calls.at_work(peer, exempt=method.exempt))
            has_answered = False
            async with aclosing(method.answers(requests, invocation)) as responses:
                async for response in responses:
                    if method.waits and not has_answered:
                        async with place.pop_all():
                            place.enter_context(calls.waiting(peer))
                    has_answered = True
                    await context.write(response)
                    del response  # the next one may come after minutes (S18)
    except (Exception, asyncio.CancelledError) as error:
        if is_task_cancelled(error):
            raise
        await _abort(context, to_status(error))


async def _unknown(_payloads: AsyncIterator[bytes], context: _Context) -> None:
    await _abort(context, unimplemented())


class _AioInvocation(Invocation):
    __slots__ = ("_context",)

    def __init__(self, context: _Context) -> None:
        # `peer()` ends the process if the call has ended, and a generator may be closed after that.
        super().__init__(context.peer(), tuple(context.invocation_metadata() or ()))
        self._context = context

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return self._context.auth_context()


async def _abort(context: _Context, status: Status) -> bytes:
    return await context.abort(status.code, status.message, status.trailers)
