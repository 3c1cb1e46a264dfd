"""All calls of the engine on grpcio's core, by state; see `CallLimits`."""

import asyncio
from typing import Any, Protocol, TypeAlias

import structlog

from stepup.rpc.engine import CallLimits
from stepup.rpc.engine.waiting import Refusals, WaitingCall, WaitingCalls
from stepup.rpc.wire.errors import RefusedError, too_many_wait

Operations: TypeAlias = tuple[Any, ...]
"""One batch for grpcio's core."""

_log = structlog.get_logger(__name__)


class OpenCall(WaitingCall, Protocol):
    """A call that the registry sees."""

    state: dict[Any, float]
    """The calls of the same state; only `Calls` sets it."""

    def watch_if_slow(self) -> None:
        """Watch for the end of the call, from the second time on."""
        ...

    def stop_work(self) -> None:
        """Cancel the work of the call."""
        ...

    def send_last(self, operations: Operations) -> None:
        """Start the batch that ends the call."""
        ...


class Calls:
    """The open calls, and the last batches of those that end in this turn of the event loop.

    A call is `half_open` until its message has arrived. Then it is `at_work` or, if its method is
    exempt, `exempt`. If the method waits, the call is `waiting` from its first answer on. From its
    end until its last bytes are sent, the call is `unread`.

    Batches that are sent together cost much less than single ones (docs/performance.md).
    """

    loop: asyncio.AbstractEventLoop
    """The loop of the server. `get_running_loop` costs a system call in Python 3.11."""

    def __init__(self, limits: CallLimits) -> None:
        self.limits = limits
        self.refusals = Refusals()
        self.open: set[OpenCall] = set()
        self._half_open = WaitingCalls(
            "half_open", limits.half_open, limits.message_seconds, self.refusals
        )
        self._at_work: dict[OpenCall, float] = {}
        self._waiting: dict[OpenCall, float] = {}
        self._exempt = WaitingCalls("exempt", limits.exempt_in_flight, None, self.refusals)
        self._unread = WaitingCalls("unread", limits.unread, limits.answer_seconds, self.refusals)
        self._ending: list[tuple[OpenCall, Operations]] = []
        self._all_closed: asyncio.Event | None = None

    def wait_for_message(self, call: OpenCall) -> None:
        """Make a call half-open. The oldest half-open calls may end for it."""
        call.state = self._half_open.since
        self._half_open.add(call, self.loop.time())

    def begin_work(self, call: OpenCall, *, exempt: bool) -> bool:
        """Give a call whose message has arrived a place; False and counted if none is free."""
        call.state.pop(call, None)
        if exempt:
            call.state = self._exempt.since
            self._exempt.add(call, self.loop.time())
        elif len(self._at_work) < self.limits.in_flight:
            call.state = self._at_work
            self._at_work[call] = 0.0
        else:
            self.refusals.count("in_flight", call.peer)
            return False
        return True

    def begin_wait(self, call: OpenCall) -> None:
        """Move a call whose first answer is ready from its place in flight to a place to wait.

        Raises:
            RefusedError: no place to wait is free.
        """
        if len(self._waiting) >= self.limits.waiting:
            self.refusals.count("waiting", call.peer)
            raise RefusedError(too_many_wait())
        call.state.pop(call, None)
        call.state = self._waiting
        self._waiting[call] = 0.0

    def end(self, call: OpenCall, operations: Operations) -> None:
        """Free the place of a call, and send its last batch at the end of this turn."""
        call.state.pop(call, None)
        call.state = self._unread.since
        self._unread.add(call, self.loop.time())
        if not self._ending:
            self.loop.call_soon(self._send_last_batches)
        self._ending.append((call, operations))

    def remove(self, call: OpenCall) -> None:
        """Remove a call that has ended."""
        self.open.discard(call)
        call.state.pop(call, None)
        if self._all_closed is not None and not self.open:
            self._all_closed.set()

    async def watch_calls(self) -> None:
        """Watch the calls that were open the last time, too; end those that wait too long.

        To watch a call costs an event, which is not worth it for the many calls that end at once.
        """
        for call in self.open:
            try:
                call.watch_if_slow()
            except Exception as error:  # noqa: BLE001  # other calls must not suffer
                _log.error("call_not_watched", exc_info=error)
        self.end_overdue()

    def end_overdue(self) -> None:
        """End the calls that have waited for their client too long."""
        now = self.loop.time()
        self._half_open.end_overdue(now)
        self._unread.end_overdue(now)

    async def stop_work_of_all(self) -> None:
        """Cancel the work of all calls and wait for their end. No call may arrive any more."""
        for call in self.open:
            call.stop_work()
        self._all_closed = asyncio.Event()
        if self.open:
            await self._all_closed.wait()

    def _send_last_batches(self) -> None:
        ending, self._ending = self._ending, []
        for call, operations in ending:
            try:
                call.send_last(operations)
            except Exception as error:  # noqa: BLE001  # other calls must not suffer
                _log.error("call_not_ended", exc_info=error)
                self.remove(call)
