"""The sockets that a server listens on, and the limits of its connections."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from errno import EADDRINUSE, EEXIST
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

from stepup.rpc.engine import Options
from stepup.rpc.identity.server_credentials import CONNECTION_AGE

_OWNER: Final = 0o600
_OWNER_AND_GROUP: Final = 0o660


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a server keeps connections, and how it finds those whose client is gone.

    Args:
        max_age: the age at which gRPC ends a connection gracefully: calls in flight finish, and the
            client connects again, perhaps to another server. gRPC adds or subtracts a tenth at
            random. With client certificates, the limit is `CONNECTION_AGE`.
        silence: the server pings a client after this time without data, even without a call in
            flight.
        answer_within: the connection ends if the client does not answer a ping in this time.
        pings_apart: the shortest time between two pings of a client. A client that pings too often
            is disconnected at the third such ping.
    """

    max_age: timedelta = CONNECTION_AGE
    silence: timedelta = timedelta(minutes=1)
    answer_within: timedelta = timedelta(seconds=20)
    pings_apart: timedelta = timedelta(seconds=10)

    @property
    def options(self) -> Options:
        """The limits as channel arguments."""
        return (
            ("grpc.max_connection_age_ms", _milliseconds(self.max_age)),
            ("grpc.keepalive_time_ms", _milliseconds(self.silence)),
            # Both are necessary: the longer one counts, and both are a minute by default.
            ("grpc.keepalive_timeout_ms", _milliseconds(self.answer_within)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(self.answer_within)),
            # Without it, gRPC allows a client without a call in flight one ping in two hours.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(self.pings_apart)),
        )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


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
