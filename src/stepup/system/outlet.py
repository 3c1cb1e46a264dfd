"""A way out of the process that never blocks it: to a file, a pipe, a terminal or a socket."""

import ctypes
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from errno import EACCES, EAGAIN, EBADF, ENOENT, ENOSPC, ENOSYS, ENXIO, EOPNOTSUPP, EPERM, EPIPE
from fcntl import F_GETFL, fcntl
from pathlib import Path
from select import PIPE_BUF, POLLERR, POLLHUP, POLLOUT, poll
from stat import S_ISREG, S_ISSOCK
from typing import Protocol, Self

_NOT_REOPENED = (EACCES, EPERM, ENOENT, ENXIO)
"""Why Linux may refuse to open `/proc/self/fd/N`: it belongs to another user, or has no reader."""
_FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h
_RESERVED_BYTES = 4096


def portions(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines into as few portions as possible that a pipe takes in one piece.

    POSIX promises not to interleave a write of up to PIPE_BUF bytes with other writes (`write()`).
    So lines stay whole. A longer line is a portion of its own.
    """
    portion: list[bytes] = []
    size = 0
    for line in lines:
        if portion and size + len(line) > PIPE_BUF:
            yield b"".join(portion)
            portion, size = [], 0
        portion.append(line)
        size += len(line)
    if portion:
        yield b"".join(portion)


def ends_within_line(path: Path) -> bool:
    """Whether the last line of a file lacks its newline: a process stopped while it wrote.

    False for an empty file, and where there is no file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            return file.read(1) not in (b"", b"\n")
    except FileNotFoundError:
        return False


class Stream(Protocol):
    """Anything with a file descriptor, such as `sys.stdout`."""

    def fileno(self) -> int:
        """The file descriptor."""
        ...


class Outlet:
    """A descriptor that is written to without waiting; `close` closes it.

    `O_NONBLOCK` belongs to an open file, which a shell, other workers and other programs share. So
    what was inherited keeps its flags: a pipe or a terminal is opened a second time, by
    `/proc/self/fd`, and a socket is sent to with `MSG_DONTWAIT`. Where that cannot be done (another
    user's pipe), each write asks the kernel first whether there is room; then a write could block
    if another process took the last room in between.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.status = status = os.fstat(descriptor)
        self.is_regular = S_ISREG(status.st_mode)
        self._socket: socket.socket | None = None
        if S_ISSOCK(status.st_mode):
            self._socket = socket.socket(fileno=os.dup(descriptor))
        self._asks_first = (
            not self.is_regular and self._socket is None and os.get_blocking(descriptor)
        )

    @classmethod
    def to(cls, stream: Stream) -> Self:
        """Write to the file of a stream, without its buffer, and independent of its close.

        Raises:
            OSError: the stream is closed, or open for reading only.
        """
        descriptor = stream.fileno()
        if fcntl(descriptor, F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(EBADF, "it is not open for writing")
        status = os.fstat(descriptor)
        if not S_ISREG(status.st_mode) and not S_ISSOCK(status.st_mode) and sys.platform == "linux":
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                return cls(os.open(f"/proc/self/fd/{descriptor}", flags))
            except OSError as error:
                if error.errno not in _NOT_REOPENED:
                    raise
        return cls(os.dup(descriptor))

    def write(self, octets: bytes | memoryview) -> int:
        """Write as much as can be written now; returns how many octets that were.

        Up to PIPE_BUF octets are written whole or not at all, unless it is a file.

        Raises:
            BlockingIOError: nothing can be written without waiting.
            OSError: it cannot be written to.
        """
        if self._socket is not None:
            return self._socket.send(octets, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._asks_first:
            if not self._events():  # an error counts as room: the write says what it is
                raise BlockingIOError
            octets = memoryview(octets)[:PIPE_BUF]
        return os.write(self.descriptor, octets)

    def portions(self, lines: list[bytes]) -> list[bytes]:
        """Lines, put together into as few writes as keep them whole among other processes' lines.

        A file takes any number of lines in one piece; a pipe takes PIPE_BUF octets.
        """
        return [b"".join(lines)] if self.is_regular else list(portions(lines))

    def check(self) -> None:
        """Find out whether lines can be written now, without writing any.

        Of a file it has the kernel reserve a block beyond its end: its size and content stay.

        Raises:
            BlockingIOError: there is no room.
            OSError: it cannot be written to; for a pipe: nobody reads from it.
        """
        if self.is_regular:
            _reserve(self.descriptor)
            return
        events = self._events()
        if events & (POLLERR | POLLHUP):
            raise BrokenPipeError(EPIPE, "nobody reads from it")
        if not events & POLLOUT:
            raise BlockingIOError(EAGAIN, "it is full, and nobody empties it")
        if self._socket is None:
            os.write(self.descriptor, b"")  # a device without room refuses even that

    def close(self) -> None:
        """Close the descriptor. To be called once."""
        if self._socket is not None:
            self._socket.close()
        os.close(self.descriptor)

    def _events(self) -> int:
        asked = poll()
        asked.register(self.descriptor, POLLOUT)
        return sum(event for _, event in asked.poll(0))


def _reserve(descriptor: int) -> None:
    """Have the file system reserve a block beyond the end of a file (Linux, `fallocate(2)`)."""
    if sys.platform == "linux":
        end = ctypes.c_longlong(os.fstat(descriptor).st_size)
        size = ctypes.c_longlong(_RESERVED_BYTES)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, end, size) == 0:
            return
        problem = ctypes.get_errno()
        if problem not in (EOPNOTSUPP, ENOSYS):
            raise OSError(problem, os.strerror(problem))
    if os.fstatvfs(descriptor).f_bavail == 0:
        raise OSError(ENOSPC, os.strerror(ENOSPC))
