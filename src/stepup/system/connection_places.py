"""Places for the connections of a small listener: a bounded number, shared fairly (S18)."""

from collections import Counter
from threading import Lock
from typing import Generic, TypeVar

C = TypeVar("C")


class ConnectionPlaces(Generic[C]):
    """The open connections of a listener, oldest first. Threads may share this.

    Where one more connection exceeds the limit, the oldest connection of the host with the most has
    to be closed. So a client with many silent connections closes its own, and no other client's.

    Args:
        limit: how many connections may be open.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[C, tuple[str, float]] = {}
        self._lock = Lock()

    def take(self, connection: C, host: str, now: float) -> list[C]:
        """Give a connection a place; returns the connections that have to be closed for it.

        Args:
            connection: has just been accepted.
            host: the client's address, without its port.
            now: seconds of a monotonic clock.
        """
        with self._lock:
            closing = []
            if len(self._open) >= self._limit:
                [(busiest, _)] = Counter(each for each, _ in self._open.values()).most_common(1)
                closing.append(
                    next(open_ for open_, (each, _) in self._open.items() if each == busiest)
                )
                del self._open[closing[0]]
            self._open[connection] = host, now
            return closing

    def leave(self, connection: C) -> None:
        """Free the place of a connection, if it has one."""
        with self._lock:
            self._open.pop(connection, None)

    def opened_before(self, instant: float) -> list[C]:
        """The connections that took their place before an instant of the same clock."""
        with self._lock:
            return [connection for connection, (_, since) in self._open.items() if since < instant]
