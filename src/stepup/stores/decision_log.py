"""The decision log: one line of JSON per decision, on its way before the answer is (S13)."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from errno import EBADF, ENXIO
from pathlib import Path
from select import PIPE_BUF
from typing import Any, NamedTuple, Self

from prometheus_client import Counter

from stepup.domain.audit import written
from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import DecisionEntry
from stepup.system.ascii_json import ascii_json
from stepup.system.outlet import Outlet, Stream
from stepup.system.portions import ends_within_line

PATIENCE_SECONDS = 1.0
"""How long decisions wait for a pipe that is full; then their calls end with UNAVAILABLE."""
_A_WRITE_SECONDS = 0.002
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

    A pipe that nobody empties holds nobody up: decisions fail after PATIENCE_SECONDS, and at once
    from then on, until it takes lines again.

    The file may be renamed or removed at any time: the next write begins another at its path.
    """

    def __init__(
        self, outlet: Outlet, path: Path | None = None, *, within_line: bool = False
    ) -> None:
        self._outlet: Outlet | None = outlet
        self._path = path
        self._within_line = within_line
        self._waiting: list[_Record] = []
        self._unwritten: deque[_Portion] = deque()
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
            OSError: it cannot be opened, or it is a pipe that nobody reads from.
        """
        outlet = _open(path)
        return cls(outlet, path, within_line=_broke_off(path, outlet))

    @classmethod
    def to(cls, stream: Stream) -> Self:
        """Write to a stream, past its buffer.

        Raises:
            OSError: it is closed.
        """
        return cls(Outlet.to(stream))

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order; the kernel has them when the call returns.

        A call that is given up meanwhile has its lines all the same, unless they wait for a pipe
        that stays full.

        Raises:
            StoreUnavailableError: not all were written, or not all of another call of this turn:
                the disk or the pipe is full, nobody reads from the pipe, the log is closed, or its
                file was taken away and no other can be opened.
        """
        if not entries:
            return
        if self._is_stuck and not self._has_room():
            _failures.inc()
            raise StoreUnavailableError("the decision log cannot be written") from self._problem
        if not self._waiting:
            # For the calls of this turn: to ask for it costs a system call in Python 3.11.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._write_waiting)
        record = _Record([_line(entry) for entry in entries], self._loop.create_future())
        self._waiting.append(record)
        problem = await record.written
        if problem is not None:
            raise StoreUnavailableError("the decision log cannot be written") from problem

    async def look(self) -> None:
        """Find out whether decisions can be written, and open again what was taken away.

        No line is written. To be called every second: a pipe counts as full when it was so twice.

        Raises:
            StoreUnavailableError: they cannot; the message says why.
        """
        try:
            outlet = self._outlet_in_place()
            # A file that took the last line will take the next: this is not asked all the time.
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

    def reopen(self) -> None:
        """Open what is at the path now, and let go of the file before; a stream stays.

        `record` does so by itself when the file is no longer at its path.

        Raises:
            OSError: it cannot be opened, and nothing has changed; or the log is closed.
        """
        self._reopened()

    def close(self) -> None:
        """Close the log; recording fails from now on. Once is enough, twice does no harm."""
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
            self._unwritten.extend(_portions(waiting, outlet))
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            self._unwritten.append(_Portion(b"", waiting))
            self._fail(error)
        else:
            self._write_to(outlet)

    def _go_on(self) -> None:
        """Write on: the pipe takes more, or has broken."""
        try:
            outlet = self._outlet_in_place()
        except OSError as error:
            self._fail(error)
            self._stop_watching()  # else the loop would call again at once, and for ever
        else:
            self._write_to(outlet)

    def _write_to(self, outlet: Outlet) -> None:
        """Write what is unwritten, as far as it goes without waiting."""
        try:
            while self._unwritten:
                self._write_portion(outlet, self._unwritten[0])
                self._unwritten.popleft().conclude(None)
        except BlockingIOError as error:
            self._problem = error
            self._wait(outlet)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            self._fail(error)
        else:
            self._problem = None
            self._is_stuck = False
            self._stop_watching()

    def _write_portion(self, outlet: Outlet, portion: "_Portion") -> None:
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
        """Go on as soon as the pipe takes more, and give up when it has not for long."""
        if self._watched is None:
            self._watched = outlet.descriptor
            self._loop.add_writer(outlet.descriptor, self._go_on)
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
        """End all calls that wait: what is unwritten stays so."""
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
        if self._path is None or _is_at(self._path, outlet):
            return outlet
        return self._reopened()

    def _reopened(self) -> Outlet:
        before = self._opened()
        if self._path is None:
            return before
        self._outlet = outlet = _open(self._path)
        self._within_line = _broke_off(self._path, outlet)
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


class _Record(NamedTuple):
    """The lines of a call, and what became of them: None, or why they are not all written."""

    lines: list[bytes]
    written: asyncio.Future[Exception | None]


class _Portion:
    """Lines that are one write, and the calls whose last line is among them."""

    __slots__ = ("lines", "records", "written")

    def __init__(self, lines: bytes, records: list[_Record]) -> None:
        self.lines = lines
        self.records = records
        self.written = 0

    def conclude(self, problem: Exception | None) -> None:
        """Tell the calls what became of their lines."""
        for record in self.records:
            if not record.written.done():  # else its call was given up
                record.written.set_result(problem)


def _portions(records: Sequence[_Record], outlet: Outlet) -> Iterator[_Portion]:
    lines = [line for record in records for line in record.lines]
    together = b"".join(lines)
    if outlet.is_regular or len(together) <= PIPE_BUF:
        yield _Portion(together, list(records))
        return
    ends = deque[tuple[int, _Record]]()
    end = 0
    for record in records:
        end += sum(map(len, record.lines))
        ends.append((end, record))
    begun = 0
    for portion in outlet.portions(lines):
        begun += len(portion)
        ended = []
        while ends and ends[0][0] <= begun:
            ended.append(ends.popleft()[1])
        yield _Portion(portion, ended)


def _open(path: Path) -> Outlet:
    # Without O_NONBLOCK the opening of a named pipe would wait for somebody who reads.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno != ENXIO:
            raise
        raise OSError(ENXIO, "nobody reads from the named pipe", str(path)) from error
    try:
        return Outlet(descriptor)
    except OSError:
        os.close(descriptor)
        raise


def _is_at(path: Path, outlet: Outlet) -> bool:
    """Whether this is the file that whoever opens the path finds."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, outlet.status)


def _unavailable(error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"the decision log cannot be written: {error.strerror}")


def _line(entry: DecisionEntry) -> bytes:
    head = {
        "decision_id": entry.decision_id,
        "decided_at": written(entry.decided_at),
        "caller": entry.caller,
    }
    # No fact takes the place of what is in every line.
    line = {**head, **entry.facts, **head}
    return ascii_json(line, _as_json)


def _as_json(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _broke_off(path: Path, outlet: Outlet) -> bool:
    """Whether an earlier process stopped within a line."""
    if not outlet.is_regular:
        return False
    if not ends_within_line(path):
        return False
    time.sleep(_A_WRITE_SECONDS)  # another process may have been writing at that moment
    return ends_within_line(path)
