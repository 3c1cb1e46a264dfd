"""A port that several processes of one user listen on, and no other user's process."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Reserve a port, during the block, for this user's sockets with SO_REUSEPORT.

    The reservation does not listen. A second reservation of the port fails.

    Args:
        host: a name or an address.
        port: 0 takes a free port.

    Yields:
        The port.

    Raises:
        OSError: another process has the port, or the host is not of this machine.
    """
    with ExitStack() as stack:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            reserved = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # Connections that were closed do not prevent this; a process that listens does.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((address[0], port, *address[2:]))
            port = reserved.getsockname()[1]
            # The kernel compares these options when the next socket binds, not before.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield port
