"""The decision log: one line of JSON per decision, on its way before the answer is (S13)."""

import os
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from stat import S_ISREG
from typing import Protocol, Self

import orjson

from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import DecisionEntry


class Stream(Protocol):
    """Anything with a file descriptor, such as `sys.stdout`."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...


class JsonLinesDecisionLog:
    """Decisions in a file or on a stream; implements the port `DecisionLog`.

    A line has `decision_id`, `decided_at` (UTC, microseconds), `caller`, and the entry's facts. The
    lines of one call are one write: several workers may append to one file. Nothing is synced: an
    entry outlives the process, not the machine. A pipe that nobody empties holds everything up.
    """

    def __init__(self, descriptor: int, *, within_line: bool = False) -> None:
        self._descriptor = descriptor
        self._within_line = within_line

    @classmethod
    def open(cls, path: Path) -> Self:
        """Append to a file; a new one has mode 0600.

        Raises:
            OSError: it cannot be opened.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            return cls(descriptor, within_line=_ends_within_line(path, descriptor))
        except OSError:
            os.close(descriptor)
            raise

    @classmethod
    def to(cls, stream: Stream) -> Self:
        """Write to a stream, past its buffer.

        Raises:
            OSError: it is closed.
        """
        # A descriptor of our own: were the stream's closed, its number could become a socket's.
        return cls(os.dup(stream.fileno()))

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order; the kernel has them when the call returns.

        Raises:
            StoreUnavailableError: not all were written: the disk is full, or the log is closed.
        """
        if not entries:
            return
        # A line that broke off stays as it is; what follows must not become part of it.
        lines = (b"\n" if self._within_line else b"") + b"".join(map(_line, entries))
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._descriptor, memoryview(lines)[written:])
        except OSError as error:
            raise StoreUnavailableError("the decision log cannot be written") from error
        finally:
            if written:
                self._within_line = lines[written - 1 : written] != b"\n"

    def close(self) -> None:
        """Close the log; recording fails from now on. Once is enough, twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _line(entry: DecisionEntry) -> bytes:
    head = {
        "decision_id": entry.decision_id,
        "decided_at": entry.decided_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "caller": entry.caller,
    }
    # No fact takes the place of what is in every line.
    return orjson.dumps(
        head | dict(entry.facts) | head, default=dict, option=orjson.OPT_APPEND_NEWLINE
    )


def _ends_within_line(path: Path, descriptor: int) -> bool:
    """Whether an earlier process broke off while it wrote."""
    status = os.fstat(descriptor)
    if not S_ISREG(status.st_mode) or not status.st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
