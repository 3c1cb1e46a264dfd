"""The engine on grpcio's core.

The completion queue has an event for each new call, each message read and each batch sent. grpc.aio
wakes the loop for every single event, which is most of its cost per call. Here a thread waits for
the first event only. Then the loop takes all events at once. When it finds none, the thread waits
again.

grpcio's synchronous server uses the same interface, `grpc._cython.cygrpc`. This interface is not
public: `choice` selects this engine only for versions of grpcio that pass the conformance suite.

A batch of operations is started on a call. When the batch has completed, the event loop calls the
tag of the batch with an event. `core_call` has the life of one call.
"""

import asyncio
from threading import Semaphore, Thread
from time import time
from typing import Any, Final

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

from stepup.rpc.engine import CallLimits, Methods, Options, UnaryMethod, metadata_size
from stepup.rpc.engine.core_call import CoreCall, StreamCall, UnaryCall
from stepup.rpc.engine.core_calls import Calls
from stepup.rpc.wire.errors import expired, metadata_too_large, unimplemented
from stepup.service.upkeep.background import run_for_ever

_AT_ONCE: Final = 0.0  # a deadline in the past: do not wait for an event
_MAX_EVENTS: Final = 256
"""How many events the loop takes before it does its other work."""

_log = structlog.get_logger(__name__)
_REQUESTED_AHEAD: Final = 64
"""How many calls the core may hand over at a time."""
_WATCH_SECONDS: Final = 0.05
"""The pause between two looks at slow calls. Most calls end sooner and are never watched."""


class CompletionQueue:
    """Calls the tag of each event with the event, on the event loop that started the queue.

    A tag is a callable that comes with an operation, and runs when the operation has completed.
    """

    def __init__(self) -> None:
        self.cygrpc: Any = cygrpc.CompletionQueue()
        self._loop: asyncio.AbstractEventLoop
        self._thread = Thread(target=self._wait, name="grpc completion queue", daemon=True)
        self._found_by_thread: Any = None
        self._may_wait = Semaphore(0)

    def start(self) -> None:
        """Begin to take events."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """Wait until all operations have ended. No operation may be started any more."""
        self.cygrpc.shutdown()
        await asyncio.to_thread(self._thread.join)

    def _wait(self) -> None:
        """Wait for events while the loop does not poll the queue; runs in the thread."""
        while True:
            event = self.cygrpc.poll()
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            self._found_by_thread = event
            # An event references its call, which this frame must not keep alive.
            event = None
            self._loop.call_soon_threadsafe(self._drain)
            self._may_wait.acquire()

    def _drain(self) -> None:
        event, self._found_by_thread = self._found_by_thread, None
        found = 0
        while found < _MAX_EVENTS:
            if event is None:
                event = self.cygrpc.poll(_AT_ONCE)
                if event.completion_type != cygrpc.CompletionType.operation_complete:
                    break
            try:
                event.tag(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # other calls must not suffer
                _log.error("event_failed", exc_info=error)
            event = None
            found += 1
        if found:
            self._loop.call_soon(self._drain)
        else:
            self._may_wait.release()


class CoreEngine:
    """Serves from grpcio's completion queue; see `Engine`."""

    def __init__(self, methods: Methods, options: Options, limits: CallLimits) -> None:
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._queue = CompletionQueue()
        self._server: Any = cygrpc.Server(
            tuple((name.encode(), _argument(value)) for name, value in options), False
        )
        self._server.register_completion_queue(self._queue.cygrpc)
        self._calls = Calls(limits)
        self._watching: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        given = () if credentials is None else (vars(credentials)["_credentials"],)
        port: int = self._server.add_http2_port(address.encode(), *given)
        if not port:
            raise OSError(f"cannot listen on {address}")
        return port

    async def start(self) -> None:
        self._calls.loop = asyncio.get_running_loop()
        self._queue.start()
        self._server.start()
        for _ in range(_REQUESTED_AHEAD):
            self._request_call()
        self._watching = asyncio.create_task(self._watch_calls())

    async def stop(self, grace_seconds: float) -> None:
        if self._watching is None:
            return  # the engine was never started
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(self._watching, grace_seconds))
        # If this wait is cancelled, the stop continues; a later call can wait for its end.
        await asyncio.shield(self._stopping)

    async def _stop(self, watching: asyncio.Task[None], grace_seconds: float) -> None:
        all_ended = asyncio.Event()
        self._server.shutdown(self._queue.cygrpc, lambda _event: all_ended.set())
        try:
            async with asyncio.timeout(grace_seconds):
                await all_ended.wait()
        except TimeoutError:
            self._server.cancel_all_calls()
            await all_ended.wait()
        # For the core, a call ends with its connection. But the work of the call may still run, and
        # an operation that is started after the queue is closed makes the core end the process.
        await self._calls.stop_work_of_all()
        watching.cancel()
        self._server.destroy()
        await self._queue.close()

    async def _watch_calls(self) -> None:
        await run_for_ever(self._calls.watch_calls, _WATCH_SECONDS)

    def _request_call(self) -> None:
        """Let the core hand over one more call."""
        if self._stopping is None:
            self._server.request_call(self._queue.cygrpc, self._queue.cygrpc, self._on_call)

    def _on_call(self, event: Any) -> None:
        """Begin a call whose metadata have arrived. An event without success announces the stop."""
        if not event.success:
            return
        self._request_call()
        method = self._methods.get(event.call_details.method)
        if method is None:
            CoreCall(event, self._calls).end(unimplemented())
        elif metadata_size(event.invocation_metadata) > self._calls.limits.metadata_bytes:
            CoreCall(event, self._calls).end(metadata_too_large())
        elif event.call_details.deadline <= time():
            # When calls wait this long, work for absent clients would make the others wait longer.
            CoreCall(event, self._calls).end(expired())
        elif isinstance(method, UnaryMethod):
            UnaryCall(event, self._calls, method).begin()
        else:
            StreamCall(event, self._calls, method).begin()


def _argument(value: int | str) -> int | bytes:
    return value.encode() if isinstance(value, str) else value
