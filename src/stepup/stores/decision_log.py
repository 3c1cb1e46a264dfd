"""The decision log: one line of JSON per decision, written before the answer is sent (S13)."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from errno import EBADF
from pathlib import Path
from typing import Any, Self

from prometheus_client import Counter

from stepup.domain.audit import written
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import DecisionEntry
from stepup.stores.decision_writes import (
    Portion,
    Record,
    broke_off,
    is_at,
    open_outlet,
    portions_of,
)
from stepup.system.json_texts import ascii_json
from stepup.system.outlet import Outlet, Stream

PATIENCE_SECONDS = 1.0
"""How long decisions wait for a pipe that is full; then their calls end with UNAVAILABLE."""
_failures = Counter(
    "stepup_decision_log_failures",
    "Writes of the decision log that failed; their decisions were not answered.",
)


class JsonLinesDecisionLog:
    """Decisions in a file or on a stream; implements the port `DecisionLog`.

    A line is ASCII and has `decision_id`, `decided_at` (UTC, microseconds), `caller`, and the
    entry's facts. The lines of one turn of the event loop are one write to a file, and as few as
    keep them whole to a pipe: several workers may append to one. Nothing is synced: an entry
    outlives the process, not the machine.

    Where nobody reads from a pipe, decisions fail after PATIENCE_SECONDS. From then on they fail
    at once, until the pipe takes lines again.

    The file may be renamed or removed at any time: the next write creates another at its path.
    """

    def __init__(
        self, outlet: Outlet, path: Path | None = None, *, within_line: bool = False
    ) -> None:
        self._outlet: Outlet | None = outlet
        self._path = path
        self._within_line = within_line
        self._waiting: list[Record] = []
        self._unwritten: deque[Portion] = deque()
        self._problem: Exception | None = None
        self._is_stuck = False
        self._was_full = False
        self._watched: int | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @classmethod
    def open(cls, path: Path) -> Self:
        """Append to a file, or write to a named pipe; a new file has mode 0600.

        Raises:
            OSError: it cannot be opened, or it is a pipe without a reader.
        """
        outlet = open_outlet(path)
        return cls(outlet, path, within_line=broke_off(path, outlet))

    @classmethod
    def to(cls, stream: Stream) -> Self:
        """Write to a stream, past its buffer.

        Raises:
            OSError: it is closed.
        """
        return cls(Outlet.to(stream))

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order; the kernel has them when the call returns.

        If the call is cancelled, its lines are still written, unless they wait for a pipe that
        stays full.

        Raises:
            StoreUnavailableError: an entry of this call, or of another call of this turn, was not
                written. The disk or the pipe is full, nobody reads from the pipe, the log is
                closed, or its file is gone and no other can be opened.
        """
        if not entries:
            return
        if self._is_stuck and not self._has_room():
            _failures.inc()
            raise StoreUnavailableError("the decision log cannot be written") from self._problem
        if not self._waiting:
            # Once for all calls of this turn: it makes a system call in Python 3.11.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._write_waiting)
        record = Record(list(map(_line, entries)), self._loop.create_future())
        self._waiting.append(record)
        problem = await record.written
        if problem is not None:
            raise StoreUnavailableError("the decision log cannot be written") from problem

    async def look(self) -> None:
        """Check that decisions can be written, and open the file again if it is gone.

        No line is written. Call it every second: a pipe counts as full after two calls that found
        it full.

        Raises:
            StoreUnavailableError: decisions cannot be written; the message says why.
        """
        try:
            outlet = self._outlet_in_place()
            # A file that took the last line will take the next: no need to ask each time.
            if self._problem is not None or not outlet.is_regular:
                outlet.check()
        except BlockingIOError as error:
            was_full, self._was_full = self._was_full, True
            if was_full or self._is_stuck:
                raise _unavailable(error) from error
        except OSError as error:
            raise _unavailable(error) from error
        else:
            self._was_full = self._is_stuck = False
            self._problem = None

    def close(self) -> None:
        """Close the log; recording fails from now on. A second call does nothing."""
        self._write_waiting()
        self._fail(OSError(EBADF, "the log is closed"))
        self._stop_watching()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            outlet = self._outlet_in_place()
            self._unwritten.extend(portions_of(waiting, outlet))
        except Exception as error:  # noqa: BLE001  # no call may wait for ever
            self._unwritten.append(Portion(b"", waiting))
            self._fail(error)
        else:
            self._write_to(outlet)

    def _continue(self) -> None:
        """Write the rest: the pipe takes more, or has broken."""
        try:
            outlet = self._outlet_in_place()
        except OSError as error:
            self._fail(error)
            self._stop_watching()  # else the loop would call again at once, and for ever
        else:
            self._write_to(outlet)

    def _write_to(self, outlet: Outlet) -> None:
        """Write what is unwritten, as far as the outlet takes it without waiting."""
        try:
            while self._unwritten:
                self._write_portion(outlet, self._unwritten[0])
                self._unwritten.popleft().conclude(None)
        except BlockingIOError as error:
            self._problem = error
            self._wait(outlet)
        except Exception as error:  # noqa: BLE001  # no call may wait for ever
            self._fail(error)
        else:
            self._problem = None
            self._is_stuck = False
            self._stop_watching()

    def _write_portion(self, outlet: Outlet, portion: Portion) -> None:
        if self._within_line and not portion.written:
            # A line that broke off stays as it is; what follows must not become part of it.
            outlet.write(b"\n")
            self._within_line = False
        while portion.written < len(portion.lines):
            rest = (
                memoryview(portion.lines)[portion.written :] if portion.written else portion.lines
            )
            portion.written += outlet.write(rest)

    def _wait(self, outlet: Outlet) -> None:
        """Continue as soon as the pipe takes more, and give up after PATIENCE_SECONDS."""
        if self._watched is None:
            self._watched = outlet.descriptor
            self._loop.add_writer(outlet.descriptor, self._continue)
        if self._patience is None:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self._unwritten:
            self._is_stuck = True
            self._fail(self._problem or TimeoutError())

    def _stop_watching(self) -> None:
        if self._watched is not None:
            self._loop.remove_writer(self._watched)
            self._watched = None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _fail(self, problem: Exception) -> None:
        """Let all calls that wait fail: what is unwritten stays unwritten."""
        if not self._unwritten:
            return
        self._problem = problem
        _failures.inc()
        while self._unwritten:
            portion = self._unwritten.popleft()
            if portion.written:
                self._within_line = portion.lines[portion.written - 1 : portion.written] != b"\n"
            portion.conclude(problem)

    def _has_room(self) -> bool:
        try:
            self._opened().check()
        except OSError:
            return False
        self._is_stuck = False
        return True

    def _outlet_in_place(self) -> Outlet:
        outlet = self._opened()
        if self._path is None or is_at(self._path, outlet):
            return outlet
        return self.reopen()

    def reopen(self) -> Outlet:
        """Open the file that is at the path now, and close the one before; a stream stays.

        `record` does so by itself when the file is no longer at its path.

        Raises:
            OSError: the file cannot be opened, and nothing has changed; or the log is closed.
        """
        before = self._opened()
        if self._path is None:
            return before
        self._outlet = outlet = open_outlet(self._path)
        self._within_line = broke_off(self._path, outlet)
        if self._watched is not None:
            self._loop.remove_writer(self._watched)
            self._watched = None
        if self._unwritten:
            self._unwritten[0].written = 0  # a line is in one file
        before.close()
        return outlet

    def _opened(self) -> Outlet:
        if self._outlet is None:
            raise OSError(EBADF, "the log is closed")
        return self._outlet


def _unavailable(error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"the decision log cannot be written: {error.strerror}")


def _line(entry: DecisionEntry) -> bytes:
    head = {
        "decision_id": entry.decision_id,
        "decided_at": written(entry.decided_at),
        "caller": entry.caller,
    }
    # No fact replaces what is in every line.
    line = {**head, **entry.facts, **head}
    return ascii_json(line, _as_json)


def _as_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
