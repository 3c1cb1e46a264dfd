"""The engine on grpcio's core: the life of a call, from top to bottom.

grpcio's synchronous server is written on the same interface, `grpc._cython.cygrpc`, which is not
public: `choose` takes this engine only with versions of grpcio that the conformance suite has
passed on. Operations are started on a call in batches; when a batch has completed, its tag is
called with the event, on the event loop (see `queue`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from time import time
from typing import Any, Final, TypeAlias

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

from stepup.rpc.call import Invocation
from stepup.rpc.engine import Options, Served, Stream, Unary, is_abandoned
from stepup.rpc.engine.queue import CompletionQueue
from stepup.rpc.errors import (
    OK,
    Status,
    expired,
    no_request,
    overloaded,
    to_status,
    unimplemented,
)

_Event: TypeAlias = Any
_Operation: TypeAlias = Any
_Tag: TypeAlias = Callable[[_Event], None]

_NO_FLAGS: Final = 0
_REQUESTED_AHEAD: Final = 64
"""How many calls the core may hand over at a time."""
_PATIENCE_SECONDS: Final = 0.05
"""Nobody asks whether the client of a call is still there before the call has taken this long."""
_log = structlog.get_logger(__name__)


class CoreEngine:
    """Serves from grpcio's completion queue; implements `Engine`."""

    def __init__(self, served: Served, options: Options, max_in_flight: int) -> None:
        self._served = {path.encode(): method for path, method in served.items()}
        self._max_in_flight = max_in_flight
        self._queue = CompletionQueue()
        self._server: Any = cygrpc.Server(
            tuple((name.encode(), _argument(value)) for name, value in options), False
        )
        self._server.register_completion_queue(self._queue.cygrpc)
        self._calls = _Calls()
        self._patrol: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind an address; returns the port.

        Raises:
            OSError: it cannot be bound.
        """
        given = () if credentials is None else (vars(credentials)["_credentials"],)
        port: int = self._server.add_http2_port(address.encode(), *given)
        if not port:
            raise OSError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        """Take calls from now on."""
        self._calls.loop = asyncio.get_running_loop()
        self._queue.start()
        self._server.start()
        for _ in range(_REQUESTED_AHEAD):
            self._request_call()
        self._patrol = asyncio.create_task(self._watch_slow_calls())

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and let those in flight finish within the grace."""
        if self._patrol is None:
            return  # it was never started
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(self._patrol, grace_seconds))
        # Who is cancelled while waiting leaves the end to whoever stops it next.
        await asyncio.shield(self._ending)

    async def _end(self, patrol: asyncio.Task[None], grace_seconds: float) -> None:
        all_ended = asyncio.Event()
        self._server.shutdown(self._queue.cygrpc, lambda _event: all_ended.set())
        try:
            async with asyncio.timeout(grace_seconds):
                await all_ended.wait()
        except TimeoutError:
            self._server.cancel_all_calls()
            await all_ended.wait()
        # For the core a call has ended with its connection; but its work may go on, and after the
        # queue is closed the core takes an operation as a reason to end the process.
        for call in self._calls:
            call.abandon()
        await self._calls.none_left()
        patrol.cancel()
        self._server.destroy()
        await self._queue.close()

    def _request_call(self) -> None:
        if self._ending is None:
            self._server.request_call(self._queue.cygrpc, self._queue.cygrpc, self._arrived)

    def _arrived(self, event: _Event) -> None:
        """A call has arrived, that is its metadata; or, without success, the server stops."""
        if not event.success:
            return
        self._request_call()
        method = self._served.get(event.call_details.method)
        if method is None:
            _Call(event, self._calls).end(unimplemented())
        elif len(self._calls) >= self._max_in_flight:
            _Call(event, self._calls).end(overloaded())
        elif event.call_details.deadline <= time():
            # Where many wait for so long, work for those nobody waits for would make more of them.
            _Call(event, self._calls).end(expired())
        elif isinstance(method, Unary):
            _UnaryCall(event, self._calls, method).begin()
        else:
            _StreamCall(event, self._calls, method).begin()

    async def _watch_slow_calls(self) -> None:
        """Ask of every call that takes its time to be told when its client goes away.

        Asking costs an event, so that for the many calls that end at once it is not worth it.
        """
        while True:
            await asyncio.sleep(_PATIENCE_SECONDS)
            self._calls.look_after()


class _Calls(set["_Call"]):
    """The calls in flight, and the last batches of those that end in this turn of the event loop.

    Together they cost much less than one by one (docs/performance.md).
    """

    loop: asyncio.AbstractEventLoop
    """The one that the server runs on. To ask for it costs a system call in Python 3.11."""

    def __init__(self) -> None:
        super().__init__()
        self._ending: list[tuple[_Call, tuple[_Operation, ...]]] = []
        self._none_left: asyncio.Event | None = None

    async def none_left(self) -> None:
        """Wait until the last call has left; no further one may come."""
        self._none_left = asyncio.Event()
        if self:
            await self._none_left.wait()

    def look_after(self) -> None:
        """Watch the calls that were in flight the last time, too."""
        for call in self:
            try:
                call.look_after()
            except Exception as error:  # noqa: BLE001  # one call's trouble is not the others'
                _log.error("call_not_watched", exc_info=error)

    def leave(self, call: "_Call") -> None:
        """Forget a call: nothing more happens to it."""
        self.discard(call)
        if self._none_left is not None and not self:
            self._none_left.set()

    def end(self, call: "_Call", operations: tuple[_Operation, ...]) -> None:
        """Send the last operations of a call."""
        if not self._ending:
            self.loop.call_soon(self._send)
        self._ending.append((call, operations))

    def _send(self) -> None:
        ending, self._ending = self._ending, []
        for call, operations in ending:
            try:
                call.start(operations, call.finished)
            except Exception as error:  # noqa: BLE001  # one call's trouble is not the others'
                _log.error("call_not_ended", exc_info=error)
                self.leave(call)


class _Call:
    """A call in flight: one of `calls` from when it arrived until its last batch has completed."""

    __slots__ = ("_calls", "_cygrpc", "_is_lasting", "_is_watched", "_metadata", "_work")

    def __init__(self, event: _Event, calls: _Calls) -> None:
        self._cygrpc = event.call
        self._metadata = event.invocation_metadata
        self._calls = calls
        self._is_lasting = False
        self._is_watched = False
        self._work: asyncio.Task[None] | None = None
        calls.add(self)

    def look_after(self) -> None:
        """From the second time on, see `watch`."""
        if self._is_lasting:
            self.watch()
        self._is_lasting = True

    def watch(self) -> None:
        """Be told when the client gives up, its deadline passes, or its connection breaks."""
        if not self._is_watched:
            self._is_watched = True
            self.start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._closed)

    def abandon(self) -> None:
        """Stop the work: nobody waits for it any more."""
        if self._work is not None and not self._work.cancelling() and self._work.cancel():
            # Not in the work itself: what is stopped before its first step takes none.
            self._work.add_done_callback(self.finished)

    def end(self, status: Status) -> None:
        """End the call with a status."""
        self._finish(
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS), _status_operation(status)
        )

    @property
    def _invocation(self) -> Invocation:
        # Asked at once: the core forgets it when the call has ended, if only its work has not.
        peer: str = self._cygrpc.peer().decode()
        return Invocation(lambda: peer, self._metadata, self._auth_context)

    def _auth_context(self) -> Mapping[str, Iterable[bytes]]:
        found = cygrpc.auth_context(self._cygrpc) or {}
        return {key.decode(): values for key, values in found.items()}

    def start(self, operations: tuple[_Operation, ...], tag: _Tag) -> None:
        """Start a batch of operations, after which the tag is called."""
        refused = self._cygrpc.start_server_batch(operations, tag)
        if refused:
            raise RuntimeError(f"the core has refused a batch: error {refused}")

    def finished(self, _event: _Event) -> None:
        """The last batch has completed, or the work has stopped."""
        # Work that was stopped holds its frame, and so this call. For the core the call's stream
        # is in use for as long as anybody holds it; it must not wait for the garbage collector.
        self._work = None
        self._calls.leave(self)

    def _finish(self, *operations: _Operation) -> None:
        if not self._is_watched:
            # The core lets go of a call that was asked for its close, and wants to be asked once.
            self._is_watched = True
            operations = (*operations, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._calls.end(self, operations)

    def _closed(self, event: _Event) -> None:
        [closed] = event.batch_operations
        if closed.cancelled():
            self.abandon()


class _UnaryCall(_Call):
    """One message in, one out: two batches, and one task between them."""

    __slots__ = ("_method",)

    def __init__(self, event: _Event, calls: _Calls, method: Unary) -> None:
        super().__init__(event, calls)
        self._method = method

    def begin(self) -> None:
        self.start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._received)

    def _received(self, event: _Event) -> None:
        [received] = event.batch_operations
        payload = received.message()
        if payload is None:
            # The client has gone, sent nothing at all, or so much that the core has refused it.
            self.end(no_request())
        else:
            self._work = self._calls.loop.create_task(self._answer(payload))

    async def _answer(self, payload: bytes) -> None:
        try:
            response = await self._method.answer(payload, self._invocation)
            message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
        except (Exception, asyncio.CancelledError) as error:
            if is_abandoned(error):
                raise
            self.end(to_status(error))
        else:
            self._finish(
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS), message, _status_operation(OK)
            )


class _StreamCall(_Call):
    """Messages in and out, one at a time and at the client's pace, all in one task."""

    __slots__ = ("_method",)

    def __init__(self, event: _Event, calls: _Calls, method: Stream) -> None:
        super().__init__(event, calls)
        self._method = method

    def begin(self) -> None:
        self.watch()
        self._work = self._calls.loop.create_task(self._answer())

    async def _answer(self) -> None:
        status = OK
        # With the first message or with the status, whichever is first: a client that has metadata
        # does not try a call again, nor does Envoy.
        ahead: tuple[_Operation, ...] = (cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),)
        try:
            async with aclosing(
                self._method.answers(self._requests(), self._invocation)
            ) as answers:
                async for response in answers:
                    message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
                    await self._completed(*ahead, message)
                    ahead = ()
        except _ClientGoneError:
            self._calls.leave(self)
            return
        except (Exception, asyncio.CancelledError) as error:
            if is_abandoned(error):
                raise
            status = to_status(error)
        self._finish(*ahead, _status_operation(status))

    async def _requests(self) -> AsyncIterator[bytes]:
        while True:
            received = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
            await self._completed(received)
            payload: bytes | None = received.message()
            if payload is None:
                return
            yield payload

    async def _completed(self, *operations: _Operation) -> None:
        completed: asyncio.Future[bool] = self._calls.loop.create_future()

        def tell(event: _Event) -> None:
            if not completed.done():
                completed.set_result(event.success)

        self.start(operations, tell)
        if not await completed:
            raise _ClientGoneError


class _ClientGoneError(Exception):
    """Nothing can be sent any more."""


def _status_operation(status: Status) -> _Operation:
    code, message = status.code.value[0], status.message.encode()
    return cygrpc.SendStatusFromServerOperation(status.trailers, code, message, _NO_FLAGS)


def _argument(value: int | str) -> int | bytes:
    return value.encode() if isinstance(value, str) else value
