"""The machine on which a command runs, and its user."""

import os
import pwd
import socket


def os_user() -> str:
    """The name of the user of the operating system who runs this process; else `uid` and a number.

    The name is from the user database, not from the environment, which the user can change.
    """
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()
