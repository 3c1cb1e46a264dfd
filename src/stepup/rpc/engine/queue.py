"""Drains grpcio's completion queue on the asyncio loop.

The queue has an event for each new call, each message read and each batch sent. grpc.aio wakes the
loop for every single event, which is most of its cost per call. Here a thread waits for the first
event only. Then the loop takes all events at once. When it finds none, the thread waits again.
"""

import asyncio
from threading import Semaphore, Thread
from typing import Any, Final

import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

_AT_ONCE: Final = 0.0  # a deadline in the past: do not wait for an event
_MAX_EVENTS: Final = 256
"""How many events the loop takes before it does its other work."""

_log = structlog.get_logger(__name__)


class CompletionQueue:
    """Calls the tag of each event with the event, on the event loop that started the queue.

    A tag is the callable that was given with an operation, for when the operation has completed.
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
