"""grpcio's completion queue, drained by the asyncio loop itself.

Everything that happens to a server arrives on this queue: a new call, a message read, a reply sent.
grpc.aio wakes the loop for every single event, which is most of what a call costs there. Here a
thread waits for the first event only; then the loop takes all there are, in one go, and lets the
thread wait again once it finds none.
"""

import asyncio
from threading import Semaphore, Thread
from typing import Any, Final

import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not public

_AT_ONCE: Final = 0.0  # a deadline in the past: what there is, or nothing
_MAX_EVENTS: Final = 256
"""How many events are taken before the loop does its other work."""

_log = structlog.get_logger(__name__)


class CompletionQueue:
    """Calls the tag of each event with the event, on the event loop that it was started in.

    A tag is a callable: what is to be done when the operation that it was given to has completed.
    """

    def __init__(self) -> None:
        self.cygrpc: Any = cygrpc.CompletionQueue()
        self._loop: asyncio.AbstractEventLoop
        self._thread = Thread(target=self._wait, name="grpc completion queue", daemon=True)
        self._found_by_thread: Any = None
        self._may_wait = Semaphore(0)

    def start(self) -> None:
        """Take events from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def close(self) -> None:
        """End when all operations have: none may be started any more."""
        self.cygrpc.shutdown()
        await asyncio.to_thread(self._thread.join)

    def _wait(self) -> None:
        """Wait for an event while the loop has nothing to do with the queue; in the thread."""
        while True:
            event = self.cygrpc.poll()
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            self._found_by_thread = event
            # An event holds its call, which must not outlive it because of this frame.
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
            except BaseException as error:  # noqa: BLE001  # nor may it end the other calls
                _log.error("event_failed", exc_info=error)
            event = None
            found += 1
        if found:
            self._loop.call_soon(self._drain)
        else:
            self._may_wait.release()
