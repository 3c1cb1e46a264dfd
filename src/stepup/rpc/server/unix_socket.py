"""Prepares the path of a unix socket for a server."""

import socket
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
