"""Ends the listening sockets of this process, which gRPC closes only with their connections."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path


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
