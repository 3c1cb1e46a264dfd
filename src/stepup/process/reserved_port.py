"""A port that several processes of ours listen on, and nobody else."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Keep a port, for as long as the block lasts, for our user's sockets with SO_REUSEPORT.

    Nothing listens on it yet. Whoever reserves it as well is refused.

    Args:
        host: a name or an address.
        port: 0 takes a free one.

    Yields:
        The port.

    Raises:
        OSError: it is taken, or the host is not of this machine.
    """
    with ExitStack() as stack:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            reserved = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # Past what is left of connections that were closed, but not past who listens.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((address[0], port, *address[2:]))
            port = reserved.getsockname()[1]
            # The kernel looks at these when the next one binds: as yet no one could share it.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield port
