"""The sockets of this process that listen, which gRPC closes only together with its connections."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path


def end_listening(port: int) -> None:
    """Have the kernel give further connections to other processes that listen on the port (Linux).

    A server that ends tells its clients to go elsewhere, and they come back on the same port. While
    its own sockets listen still some would come back to it, and be reset.
    """
    for listener in _listeners():
        with closing(listener):
            if listener.getsockname()[1] == port:
                listener.shutdown(socket.SHUT_RD)


def _listeners() -> Iterator[socket.socket]:
    """Those of any kind, as duplicates to be closed."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it is closed meanwhile, or no socket
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
