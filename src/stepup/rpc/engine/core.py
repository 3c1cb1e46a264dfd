"""The engine on grpcio's core: the life of a call, from top to bottom.

grpcio's synchronous server is written on the same interface, `grpc._cython.cygrpc`, which is not
public: `choose` takes this engine only with versions of grpcio that the conformance suite has
passed on. Operations are started on a call in batches; when a batch has completed, its tag is
called with the event, on the event loop (see `queue`).
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from time import time
from typing import Any, Final, TypeAlias

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

from stepup.rpc.engine import (
    CallLimits,
    Options,
    Served,
    Stream,
    Unary,
    is_abandoned,
    metadata_size,
)
from stepup.rpc.engine.queue import CompletionQueue
from stepup.rpc.engine.waiting import Refusals, WaitingCalls
from stepup.rpc.pipeline.call import Invocation
from stepup.rpc.wire.errors import (
    OK,
    RefusedError,
    Status,
    expired,
    message_late,
    metadata_too_large,
    no_request,
    overloaded,
    to_status,
    unimplemented,
)
from stepup.service.upkeep.background import run_for_ever

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

    def __init__(self, served: Served, options: Options, limits: CallLimits) -> None:
        self._served = {path.encode(): method for path, method in served.items()}
        self._queue = CompletionQueue()
        self._server: Any = cygrpc.Server(
            tuple((name.encode(), _argument(value)) for name, value in options), False
        )
        self._server.register_completion_queue(self._queue.cygrpc)
        self._calls = _Calls(limits)
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
        elif metadata_size(event.invocation_metadata) > self._calls.limits.metadata_bytes:
            _Call(event, self._calls).end(metadata_too_large())
        elif event.call_details.deadline <= time():
            # Where many wait for so long, work for those nobody waits for would make more of them.
            _Call(event, self._calls).end(expired())
        elif isinstance(method, Unary):
            _UnaryCall(event, self._calls, method).begin()
        else:
            _StreamCall(event, self._calls, method).begin()

    async def _watch_slow_calls(self) -> None:
        await run_for_ever(self._calls.watch_slow, _PATIENCE_SECONDS)


class _Calls(set["_Call"]):
    """All calls and their states, and the last batches of those that end in this turn of the loop.

    A call is `half_open` until its message has arrived, then `at_work` or, of an exempt method,
    `exempt`, and `unread` from its end until its last bytes have left.

    Batches that are sent together cost much less than one by one (docs/performance.md).
    """

    loop: asyncio.AbstractEventLoop
    """The one that the server runs on. To ask for it costs a system call in Python 3.11."""

    def __init__(self, limits: CallLimits) -> None:
        super().__init__()
        self.limits = limits
        self.refusals = Refusals()
        self.half_open = WaitingCalls(
            "half_open", limits.half_open, limits.message_seconds, self.refusals
        )
        self.at_work: set[_Call] = set()
        self.exempt = WaitingCalls("exempt", limits.exempt_in_flight, None, self.refusals)
        self.unread = WaitingCalls("unread", limits.unread, limits.answer_seconds, self.refusals)
        self._ending: list[tuple[_Call, tuple[_Operation, ...]]] = []
        self._none_left: asyncio.Event | None = None

    async def none_left(self) -> None:
        """Wait until the last call has left; no further one may come."""
        self._none_left = asyncio.Event()
        if self:
            await self._none_left.wait()

    async def watch_slow(self) -> None:
        """End calls whose client is overdue, and watch for clients of the others that go away.

        Asking costs an event, so that for the many calls that end at once it is not worth it.
        """
        self._look_after()
        self.end_overdue()

    def _look_after(self) -> None:
        """Watch the calls that were in flight the last time, too."""
        for call in self:
            try:
                call.look_after()
            except Exception as error:  # noqa: BLE001  # one call's trouble is not the others'
                _log.error("call_not_watched", exc_info=error)

    def end_overdue(self) -> None:
        """End the calls that have waited for their client for too long."""
        now = self.loop.time()
        self.half_open.end_overdue(now)
        self.unread.end_overdue(now)

    def begin_work(self, call: "_Call", *, exempt: bool) -> bool:
        """Give a call whose message has arrived a place; whether there is one."""
        if exempt:
            self.exempt.add(call, self.loop.time())
        elif len(self.at_work) < self.limits.in_flight:
            self.at_work.add(call)
        else:
            self.refusals.count("in_flight", call.peer)
            return False
        return True

    def end_work(self, call: "_Call") -> None:
        """Free the place of a call, if it has one."""
        self.at_work.discard(call)
        self.exempt.discard(call)

    def leave(self, call: "_Call") -> None:
        """Forget a call: nothing more happens to it."""
        self.discard(call)
        self.end_work(call)
        self.half_open.discard(call)
        self.unread.discard(call)
        if self._none_left is not None and not self:
            self._none_left.set()

    def end(self, call: "_Call", operations: tuple[_Operation, ...]) -> None:
        """Send the last operations of a call."""
        self.end_work(call)
        self.half_open.discard(call)
        self.unread.add(call, self.loop.time())
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
    """A call: one of `calls` from when it arrived until its last batch has completed."""

    __slots__ = (
        "_calls",
        "_cygrpc",
        "_has_gone",
        "_has_status",
        "_initial_metadata",
        "_is_lasting",
        "_is_watched",
        "_metadata",
        "_work",
        "peer",
    )

    def __init__(self, event: _Event, calls: _Calls) -> None:
        self._cygrpc = event.call
        # Asked at once: the core forgets it when the call has ended, if only its work has not.
        self.peer: str = event.call.peer().decode()
        self._metadata = event.invocation_metadata
        self._calls = calls
        self._has_gone = False
        self._has_status = False
        # With the first message or with the status, whichever is first: a client that has metadata
        # does not try a call again, nor does Envoy.
        self._initial_metadata: tuple[_Operation, ...] = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
        )
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
        if self._work is None:
            self._has_gone = True
        elif not self._work.cancelling() and self._work.cancel():
            # Not in the work itself: what is stopped before its first step takes none.
            self._work.add_done_callback(self.finished)

    def end(self, status: Status) -> None:
        """End the call with a status."""
        self._finish(_status_operation(status))

    def end_early(self, status: Status) -> None:
        """End the call with a status, whatever it waits for."""
        if self._work is None and not self._has_status:
            self.end(status)
        else:
            # What is under way cannot be taken back: the core ends it, and says so to the client.
            self._cygrpc.cancel(status.code.value[0], status.message)

    @property
    def _invocation(self) -> Invocation:
        peer = self.peer
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
        operations = (*self._initial_metadata, *operations)
        self._has_status = True
        if not self._is_watched:
            # The core lets go of a call that was asked for its close, and wants to be asked once.
            self._is_watched = True
            operations = (*operations, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._calls.end(self, operations)

    def _closed(self, event: _Event) -> None:
        [closed] = event.batch_operations
        if closed.cancelled():
            self.abandon()


class _ServedCall(_Call):
    """A call of a method: it waits for its first message, then works in one task."""

    __slots__ = ("_method",)

    _method: Unary | Stream

    def begin(self) -> None:
        """Wait for the first message."""
        self._calls.half_open.add(self, self._calls.loop.time())
        self.start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._received)

    def _received(self, event: _Event) -> None:
        self._calls.half_open.discard(self)
        if self._has_status:  # it was ended meanwhile
            return
        if self._has_gone:
            self._calls.leave(self)
            return
        [received] = event.batch_operations
        self._begin_work(received.message())

    def _begin_work(self, payload: bytes | None) -> None:
        if self._calls.begin_work(self, exempt=self._method.exempt):
            self._work = self._calls.loop.create_task(self._answer(payload))
        else:
            self.end(overloaded())

    @abstractmethod
    async def _answer(self, payload: Any) -> None:
        """Do the work: call the method, and end the call."""


class _UnaryCall(_ServedCall):
    """One message in, one out: two batches, and one task between them."""

    __slots__ = ()

    _method: Unary

    def __init__(self, event: _Event, calls: _Calls, method: Unary) -> None:
        super().__init__(event, calls)
        self._method = method

    def _begin_work(self, payload: bytes | None) -> None:
        if payload is None:
            # The client has gone, sent nothing at all, or so much that the core has refused it.
            self.end(no_request())
        else:
            super()._begin_work(payload)

    async def _answer(self, payload: bytes) -> None:
        try:
            response = await self._method.answer(payload, self._invocation)
            message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
        except (Exception, asyncio.CancelledError) as error:
            if is_abandoned(error):
                raise
            self.end(to_status(error))
        else:
            self._finish(message, _status_operation(OK))


class _StreamCall(_ServedCall):
    """Messages in and out, one at a time and at the client's pace, all in one task."""

    __slots__ = ()

    _method: Stream

    def __init__(self, event: _Event, calls: _Calls, method: Stream) -> None:
        super().__init__(event, calls)
        self._method = method

    def begin(self) -> None:
        self.watch()
        super().begin()

    async def _answer(self, payload: bytes | None) -> None:
        status = OK
        try:
            async with aclosing(
                self._method.answers(self._requests(payload), self._invocation)
            ) as answers:
                async for response in answers:
                    message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
                    ahead, self._initial_metadata = self._initial_metadata, ()
                    await self._taken(*ahead, message)
        except _ClientGoneError:
            self._calls.leave(self)
            return
        except (Exception, asyncio.CancelledError) as error:
            if is_abandoned(error):
                raise
            status = to_status(error)
        self._finish(_status_operation(status))

    async def _requests(self, payload: bytes | None) -> AsyncIterator[bytes]:
        while payload is not None:
            yield payload
            received = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
            try:
                async with asyncio.timeout(self._calls.limits.message_seconds):
                    await self._completed(received)
            except TimeoutError:
                self._calls.refusals.count("message_late", self.peer)
                raise RefusedError(message_late()) from None
            payload = received.message()

    async def _taken(self, *operations: _Operation) -> None:
        try:
            async with asyncio.timeout(self._calls.limits.answer_seconds):
                await self._completed(*operations)
        except TimeoutError:
            self._calls.refusals.count("unread", self.peer)
            # Its work ends when the core says that the call is closed.
            self.end_early(message_late())
            await asyncio.Event().wait()

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
