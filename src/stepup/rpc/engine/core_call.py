"""The life of one call of the engine on grpcio's core, from its arrival to its last bytes."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Final, TypeAlias

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

from stepup.rpc.engine import Invocation, StreamMethod, UnaryMethod, is_task_cancelled
from stepup.rpc.engine.core_calls import Calls, Operations
from stepup.rpc.wire.errors import (
    OK,
    RefusedError,
    Status,
    message_late,
    no_request,
    overloaded,
    to_status,
)

_Event: TypeAlias = Any
_Tag: TypeAlias = Callable[[_Event], None]

_NO_FLAGS: Final = 0
_OK: Final = ((), 0, b"", _NO_FLAGS)
"""The arguments of a status operation."""
_NO_STATE: Final[dict[Any, float]] = {}
"""The state of a call that has just arrived: always empty."""


class CoreCall(Invocation):
    """A call that has arrived. Without a method, it can only be ended."""

    __slots__ = (
        "_calls",
        "_client_is_gone",
        "_cygrpc",
        "_has_status",
        "_initial_metadata",
        "_is_watched",
        "_method",
        "_was_seen",
        "_work",
        "state",
    )

    state: dict[Any, float]
    _method: UnaryMethod | StreamMethod | None

    def __init__(
        self, event: _Event, calls: Calls, method: UnaryMethod | StreamMethod | None = None
    ) -> None:
        # The core forgets the address when the call ends, which may be before the work ends.
        self.peer = event.call.peer().decode()
        self.metadata = event.invocation_metadata
        self.state = _NO_STATE
        self._cygrpc = event.call
        self._calls = calls
        self._method = method
        self._client_is_gone = False
        self._has_status = False
        # Sent with the first message or with the status, whichever comes first: a client or Envoy
        # does not retry a call whose initial metadata it has received.
        self._initial_metadata: Operations = (cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),)
        self._was_seen = False
        self._is_watched = False
        self._work: asyncio.Task[None] | None = None
        calls.open.add(self)

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        found = cygrpc.auth_context(self._cygrpc) or {}
        return {key.decode(): values for key, values in found.items()}

    def watch_if_slow(self) -> None:
        if self._was_seen:
            self.watch()
        self._was_seen = True

    def watch(self) -> None:
        """Stop the work if the client cancels, the deadline passes, or the connection breaks."""
        if not self._is_watched:
            self._is_watched = True
            self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), self._on_close)

    def stop_work(self) -> None:
        """Cancel the work, or prevent it: nobody waits for its result."""
        if self._work is None:
            self._client_is_gone = True
        elif not self._work.cancelling() and self._work.cancel():
            # Not in the work itself: a task that is cancelled before its first step runs none.
            self._work.add_done_callback(self._on_end)

    def end(self, status: Status) -> None:
        """End the call with a status."""
        self._end_with(_status_operation(status))

    def end_early(self, status: Status) -> None:
        if self._work is None and not self._has_status:
            self.end(status)
        else:
            # A started batch cannot be withdrawn: the core ends the batch and informs the client.
            self._cygrpc.cancel(status.code.value[0], status.message)

    def send_last(self, operations: Operations) -> None:
        self._start(operations, self._on_end)

    def _start(self, operations: Operations, tag: _Tag) -> None:
        """Start a batch of operations; the tag is called when it has completed."""
        error = self._cygrpc.start_server_batch(operations, tag)
        if error:
            raise RuntimeError(f"the core has refused a batch: error {error}")

    def _end_with(self, *operations: Any) -> None:
        operations = (*self._initial_metadata, *operations)
        self._has_status = True
        if not self._is_watched:
            # The core frees a call only after this operation, which may be started once.
            self._is_watched = True
            operations = (*operations, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._calls.end(self, operations)

    def _on_close(self, event: _Event) -> None:
        [closed] = event.batch_operations
        if closed.cancelled():
            self.stop_work()

    def _on_end(self, _event: _Event) -> None:
        """The last batch has completed, or the work was cancelled."""
        # A cancelled task holds its frame, and the frame holds this call. The core keeps the stream
        # of a call as long as the call is referenced: do not leave this to the garbage collector.
        self._work = None
        self._calls.remove(self)


class _MethodCall(CoreCall):
    """A call of a method: it waits for its first message, then works in one task."""

    __slots__ = ()

    _method: UnaryMethod | StreamMethod
    _needs_message: ClassVar[bool]

    def begin(self) -> None:
        """Wait for the first message."""
        self._calls.wait_for_message(self)
        self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._on_message)

    def _on_message(self, event: _Event) -> None:
        if self._has_status:  # the call was ended meanwhile
            return
        if self._client_is_gone:
            self._calls.remove(self)
            return
        [received] = event.batch_operations
        payload = received.message()
        if payload is None and self._needs_message:
            # The client has gone, sent no message, or sent one that is too large for the core.
            self.end(no_request())
        elif self._calls.begin_work(self, exempt=self._method.exempt):
            self._work = self._calls.loop.create_task(self._answer(payload))
        else:
            self.end(overloaded())

    @abstractmethod
    async def _answer(self, payload: Any) -> None:
        """Call the method and end the call."""


class UnaryCall(_MethodCall):
    """A call with one message in and one out: two batches, with one task between them."""

    __slots__ = ()

    _method: UnaryMethod
    _needs_message = True

    async def _answer(self, payload: bytes) -> None:
        try:
            response = await self._method.answer(payload, self)
            message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
        except (Exception, asyncio.CancelledError) as error:
            if is_task_cancelled(error):
                raise
            self.end(to_status(error))
        else:
            self._end_with(message, cygrpc.SendStatusFromServerOperation(*_OK))


class StreamCall(_MethodCall):
    """A call with messages in and out, one at a time and at the client's pace, in one task."""

    __slots__ = ()

    _method: StreamMethod
    _needs_message = False

    def begin(self) -> None:
        """Wait for the first message, and watch for the end of the call."""
        self.watch()
        super().begin()

    async def _answer(self, payload: bytes | None) -> None:
        status = OK
        try:
            async with aclosing(self._method.answers(self._requests(payload), self)) as answers:
                async for response in answers:
                    if self._method.waits and self._initial_metadata:
                        self._calls.begin_wait(self)
                    message = cygrpc.SendMessageOperation(response, _NO_FLAGS)
                    first, self._initial_metadata = self._initial_metadata, ()
                    await self._send(*first, message)
                    del response, message  # the next one may come after minutes (S18)
        except _ClientGoneError:
            self._calls.remove(self)
            return
        except (Exception, asyncio.CancelledError) as error:
            if is_task_cancelled(error):
                raise
            status = to_status(error)
        self._end_with(_status_operation(status))

    async def _requests(self, payload: bytes | None) -> AsyncIterator[bytes]:
        while payload is not None:
            yield payload
            received = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
            try:
                async with asyncio.timeout(self._calls.limits.message_seconds):
                    await self._complete(received)
            except TimeoutError:
                self._calls.refusals.count("message_late", self.peer)
                raise RefusedError(message_late()) from None
            payload = received.message()

    async def _send(self, *operations: Any) -> None:
        try:
            async with asyncio.timeout(self._calls.limits.answer_seconds):
                await self._complete(*operations)
        except TimeoutError:
            self._calls.refusals.count("unread", self.peer)
            self.end_early(message_late())
            # The core reports that the call is closed, which cancels this task.
            await asyncio.Event().wait()

    async def _complete(self, *operations: Any) -> None:
        """Run a batch to its end, or raise `_ClientGoneError`."""
        completed: asyncio.Future[bool] = self._calls.loop.create_future()

        def set_result(event: _Event) -> None:
            if not completed.done():
                completed.set_result(event.success)

        self._start(operations, set_result)
        if not await completed:
            raise _ClientGoneError


class _ClientGoneError(Exception):
    """The connection is gone: nothing can be sent any more."""


def _status_operation(status: Status) -> Any:
    code, message = status.code.value[0], status.message.encode()
    return cygrpc.SendStatusFromServerOperation(status.trailers, code, message, _NO_FLAGS)
