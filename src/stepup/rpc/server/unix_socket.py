"""The path of a unix socket that a server listens on."""

import socket
from errno import EADDRINUSE, EEXIST
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

_OWNER: Final = 0o600
_OWNER_AND_GROUP: Final = 0o660


def remove_stale_socket(path: Path) -> None:
    """Remove a socket that a killed server has left; gRPC itself would remove any socket.

    Raises:
        OSError: a server listens on it, the file is not a socket, or it cannot be looked at.
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
            pass  # so many wait for the server that it takes no more
    raise OSError(EADDRINUSE, "cannot listen on it: another server does")


def restrict_socket(path: Path, *, to_group: bool) -> None:
    """Let only the owner of a socket connect to it, or its group, too.

    Raises:
        OSError: it is gone.
    """
    path.chmod(_OWNER_AND_GROUP if to_group else _OWNER)
