"""The decision log: one line of JSON per decision, on its way before the answer is (S13)."""

import asyncio
import os
import time
from collections.abc import Sequence
from errno import EBADF
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple, Protocol, Self

import orjson
from prometheus_client import Counter

from stepup.domain.audit import written
from stepup.domain.errors import StoreUnavailableError
from stepup.portions import portions
from stepup.service.ports import DecisionEntry

_A_WRITE_SECONDS = 0.002
_failures = Counter(
    "stepup_decision_log_failures",
    "Writes of the decision log that failed; their decisions were not answered.",
)


class Stream(Protocol):
    """Anything with a file descriptor, such as `sys.stdout`."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...


class JsonLinesDecisionLog:
    """Decisions in a file or on a stream; implements the port `DecisionLog`.

    A line has `decision_id`, `decided_at` (UTC, microseconds), `caller`, and the entry's facts. The
    lines of one turn of the event loop are one write: several workers may append to one file.
    Nothing is synced: an entry outlives the process, not the machine. A pipe that nobody empties
    holds everything up.

    The file may be renamed or removed at any time: the next write begins another at its path.
    """

    def __init__(self, file: "_File", path: Path | None = None) -> None:
        self._file: _File | None = file
        self._path = path
        self._waiting: list[_Record] = []
        self._loop: asyncio.AbstractEventLoop

    @classmethod
    def open(cls, path: Path) -> Self:
        """Append to a file; a new one has mode 0600.

        Raises:
            OSError: it cannot be opened.
        """
        return cls(_File.open(path), path)

    @classmethod
    def to(cls, stream: Stream) -> Self:
        """Write to a stream, past its buffer.

        Raises:
            OSError: it is closed.
        """
        # A descriptor of our own: were the stream's closed, its number could become a socket's.
        return cls(_File(os.dup(stream.fileno())))

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order; the kernel has them when the call returns.

        A call that is given up meanwhile has its lines all the same.

        Raises:
            StoreUnavailableError: not all were written, or not all of another call of this turn:
                the disk is full, the log is closed, or its file was taken away and no other can be
                opened.
        """
        if not entries:
            return
        if not self._waiting:
            # For the calls of this turn: to ask for it costs a system call in Python 3.11.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._write_waiting)
        record = _Record(b"".join(map(_line, entries)), self._loop.create_future())
        self._waiting.append(record)
        problem = await record.written
        if problem is not None:
            raise StoreUnavailableError("the decision log cannot be written") from problem

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
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        problem = None
        try:
            self._file_in_place().write([record.lines for record in waiting])
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody may wait for ever
            problem = error
            _failures.inc()
        for record in waiting:
            if not record.written.done():  # else its call was given up
                record.written.set_result(problem)

    def _file_in_place(self) -> "_File":
        file = self._opened()
        if self._path is None or file.is_at(self._path):
            return file
        return self._reopened()

    def _reopened(self) -> "_File":
        before = self._opened()
        if self._path is None:
            return before
        self._file = _File.open(self._path)
        before.close()
        return self._file

    def _opened(self) -> "_File":
        if self._file is None:
            raise OSError(EBADF, "the log is closed")
        return self._file


class _Record(NamedTuple):
    """The lines of a call, and what became of them: None, or why they are not all written."""

    lines: bytes
    written: asyncio.Future[Exception | None]


class _File:
    """A file that lines are appended to, through a descriptor of our own."""

    def __init__(self, descriptor: int, *, within_line: bool = False) -> None:
        self._descriptor = descriptor
        self._within_line = within_line
        status = os.fstat(descriptor)
        self._identity = _identity(status)
        self._is_regular = S_ISREG(status.st_mode)

    @classmethod
    def open(cls, path: Path) -> Self:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            return cls(descriptor, within_line=_ends_within_line(path, descriptor))
        except OSError:
            os.close(descriptor)
            raise

    def is_at(self, path: Path) -> bool:
        """Whether this is the file that whoever opens the path finds."""
        try:
            return _identity(path.stat()) == self._identity
        except FileNotFoundError:
            return False

    def write(self, records: Sequence[bytes]) -> None:
        # Nobody's lines come in between in a file, however long the write is.
        for lines in [b"".join(records)] if self._is_regular else portions(records):
            self._write(lines)

    def _write(self, lines: bytes) -> None:
        if self._within_line:
            # A line that broke off stays as it is; what follows must not become part of it.
            lines = b"\n" + lines
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._descriptor, memoryview(lines)[written:])
        finally:
            if written:
                self._within_line = lines[written - 1 : written] != b"\n"

    def close(self) -> None:
        os.close(self._descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _line(entry: DecisionEntry) -> bytes:
    head = {
        "decision_id": entry.decision_id,
        "decided_at": written(entry.decided_at),
        "caller": entry.caller,
    }
    # No fact takes the place of what is in every line.
    line = {**head, **entry.facts, **head}
    return orjson.dumps(line, default=dict, option=orjson.OPT_APPEND_NEWLINE)


def _ends_within_line(path: Path, descriptor: int) -> bool:
    """Whether an earlier process broke off while it wrote."""
    if not S_ISREG(os.fstat(descriptor).st_mode):
        return False
    if not _last_line_is_open(path):
        return False
    time.sleep(_A_WRITE_SECONDS)  # another process may have been at it just then
    return _last_line_is_open(path)


def _last_line_is_open(path: Path) -> bool:
    # Since it was opened the file may have been renamed, and another may be in its place, or none.
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return file.read(1) not in (b"", b"\n")
    except FileNotFoundError:
        return False
