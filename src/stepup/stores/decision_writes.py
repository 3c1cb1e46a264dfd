"""How lines of decisions leave: in which writes, and to which file."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from errno import ENXIO
from pathlib import Path
from select import PIPE_BUF
from typing import NamedTuple

from stepup.system.outlet import Outlet, ends_within_line

_A_WRITE_SECONDS = 0.002


class Record(NamedTuple):
    """The lines of a call, and the result of writing them: None, or the problem."""

    lines: list[bytes]
    written: asyncio.Future[Exception | None]


class Portion:
    """Lines that are one write, and the calls whose last line is among them.

    `written` counts the octets that the kernel has taken.
    """

    __slots__ = ("lines", "records", "written")

    def __init__(self, lines: bytes, records: list[Record]) -> None:
        self.lines = lines
        self.records = records
        self.written = 0

    def conclude(self, problem: Exception | None) -> None:
        """Give the calls the result: None, or the problem."""
        for record in self.records:
            if not record.written.done():  # else its call was given up
                record.written.set_result(problem)


def portions_of(records: Sequence[Record], outlet: Outlet) -> Iterator[Portion]:
    """Put the lines of calls together into as few writes as keep each line whole.

    A file takes all lines in one write. A pipe that several processes write to keeps PIPE_BUF
    octets together.
    """
    lines = [line for record in records for line in record.lines]
    together = b"".join(lines)
    if outlet.is_regular or len(together) <= PIPE_BUF:
        yield Portion(together, list(records))
        return
    ends = deque[tuple[int, Record]]()
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
        yield Portion(portion, ended)


def open_outlet(path: Path) -> Outlet:
    """Open a file to append to, or a named pipe; a new file has mode 0600.

    Raises:
        OSError: it cannot be opened, or it is a pipe without a reader.
    """
    # Without O_NONBLOCK the opening of a named pipe would wait for a reader.
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


def is_at(path: Path, outlet: Outlet) -> bool:
    """Whether the path leads to the file that the outlet has open."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, outlet.status)


def broke_off(path: Path, outlet: Outlet) -> bool:
    """Whether an earlier process stopped within a line of this file."""
    if not outlet.is_regular:
        return False
    if not ends_within_line(path):
        return False
    time.sleep(_A_WRITE_SECONDS)  # another process may have been writing at that moment
    return ends_within_line(path)
