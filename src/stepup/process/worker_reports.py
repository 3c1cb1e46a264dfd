"""What a worker writes to its parent every second: the health names that serve.

A report is the names, each with a newline, then `1` or `0`: whether decisions can be made. So a
supervisor of an earlier version, which reads the last octet only, understands it, and its workers'
reports of one octet are read here.
"""

import re
from collections.abc import Collection
from typing import Final

_SERVER: Final = ""
_REPORT: Final = re.compile(rb"((?:[^01\n][^\n]*\n)*)([01])")


def report(serving: Collection[str]) -> bytes:
    """A report of the health names that serve; the empty name is the whole server.

    It is far shorter than PIPE_BUF, so that a pipe takes all of it or nothing.
    """
    names = "".join(f"{name}\n" for name in sorted(serving) if name != _SERVER)
    return f"{names}{int(_SERVER in serving)}".encode()


class Reports:
    """The reports of one worker as they arrive; `serving` is what the latest one says."""

    def __init__(self) -> None:
        self.serving: frozenset[str] = frozenset()
        self._begun = b""

    def read(self, octets: bytes) -> None:
        """Read what has arrived; a report that is not complete waits for its rest."""
        unread = self._begun + octets
        while found := _REPORT.match(unread):
            names = found[1].decode().splitlines()
            self.serving = frozenset([*names, *([_SERVER] if found[2] == b"1" else [])])
            unread = unread[found.end() :]
        self._begun = unread
