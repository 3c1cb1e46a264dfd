"""What a worker writes to its supervisor every second: the health names that it serves.

A report is the names, each with a newline, then `1` or `0`: whether the worker can make decisions.
So a supervisor of an earlier version, which reads the last octet only, understands it, and this
version reads the reports of one octet of earlier workers.
"""

import re
from collections.abc import Collection
from typing import Final

SERVER: Final = ""
"""The health name of the whole server."""
_REPORT: Final = re.compile(rb"((?:[^01\n][^\n]*\n)*)([01])")


def report(serving: Collection[str]) -> bytes:
    """Encode a report of the health names that a worker serves.

    A report is far shorter than PIPE_BUF, so that a pipe takes all of it or nothing.
    """
    names = "".join(f"{name}\n" for name in sorted(serving) if name != SERVER)
    return f"{names}{int(SERVER in serving)}".encode()


class Reports:
    """Decodes the reports of one worker; `serving` has the names of the latest report."""

    def __init__(self) -> None:
        self.serving: frozenset[str] = frozenset()
        self._incomplete = b""

    def read(self, octets: bytes) -> None:
        """Decode octets; an incomplete report waits for the next octets."""
        unread = self._incomplete + octets
        while found := _REPORT.match(unread):
            names = found[1].decode().splitlines()
            self.serving = frozenset([*names, *([SERVER] if found[2] == b"1" else [])])
            unread = unread[found.end() :]
        self._incomplete = unread
