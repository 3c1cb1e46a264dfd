"""The listening sockets of this process: a unix socket's path, and the end of listening."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from errno import EADDRINUSE, EEXIST
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

_OWNER: Final = 0o600
_OWNER_AND_GROUP: Final = 0o660


def remove_stale_socket(path: Path) -> None:
    """Remove the socket of a killed server. gRPC itself would also remove the socket of a live one.

    Raises:
        OSError: another server listens on the socket, the file is not a socket, or the file cannot
            be read.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not S_ISSOCK(mode):
        raise FileExistsError(EEXIST, "cannot listen on it: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # the queue of the other server is full
    raise OSError(EADDRINUSE, "cannot listen on it: another server does")


def restrict_socket(path: Path, *, to_group: bool) -> None:
    """Let only the owner connect to a socket, or also its group.

    Raises:
        OSError: the socket does not exist.
    """
    path.chmod(_OWNER_AND_GROUP if to_group else _OWNER)


def end_listening(port: int) -> None:
    """Stop listening on a port that other processes share; they get all new connections (Linux).

    A server that stops sends its clients away, and they connect to the same port again. While its
    own sockets still listen, the kernel gives it some of these connections, which are then reset.
    """
    for listener in _listeners():
        with closing(listener):
            if listener.getsockname()[1] == port:
                listener.shutdown(socket.SHUT_RD)


def _listeners() -> Iterator[socket.socket]:
    """Duplicates of all listening sockets; the caller closes them."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile, or is not a socket
            found = _socket(os.dup(int(entry.name)))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield found
            else:
                found.close()


def _socket(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        raise
