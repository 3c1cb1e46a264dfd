"""Notices to the service manager that started the process, such as systemd (sd_notify(3))."""

import os
import socket
import time
from contextlib import suppress
from typing import Final, Self

_VARIABLE: Final = "NOTIFY_SOCKET"


class ServiceManager:
    """The service manager, reached by a datagram socket.

    A notice that cannot be sent is dropped: no caller of a server depends on it, and a manager that
    does not read delays nothing.

    Args:
        address: a path, or `@` and the name of an abstract socket; None sends nothing.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    @classmethod
    def take_from_environment(cls) -> Self:
        """Use the address in NOTIFY_SOCKET, and remove the variable.

        The variable is removed because children of the process, such as workers and the embedded
        store, must not report for it.
        """
        return cls(os.environ.pop(_VARIABLE, None))

    def report_ready(self, status: str) -> None:
        """Report that the process serves, also after a reload. The status is text for operators."""
        self._send("READY=1", f"STATUS={status}")

    def report_reloading(self) -> None:
        """Report that a reload begins; `report_ready` has to follow."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def report_stopping(self) -> None:
        """Report that the process finishes its calls and ends."""
        self._send("STOPPING=1", "STATUS=finishing the calls in flight")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # The kernel names an abstract socket by a NUL in place of the @.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notices,
        ):
            notices.sendto("\n".join(lines).encode(), address)
