"""A bounded number of connections for a small listener, shared fairly among hosts (S18)."""

from collections import Counter
from threading import Lock
from typing import Generic, TypeVar

C = TypeVar("C")


class OpenConnections(Generic[C]):
    """The open connections of a listener, oldest first. Threads may share an instance.

    A connection beyond the limit takes the place of the oldest connection of the host with the most
    connections. So a client with many silent connections loses its own, and no other client's.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[C, tuple[str, float]] = {}
        self._lock = Lock()

    def add(self, connection: C, host: str, now: float) -> list[C]:
        """Add a connection; return the connections that the caller must close for it.

        `host` has no port. `now` is in seconds of a monotonic clock.
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

    def remove(self, connection: C) -> None:
        """Remove a connection, if it is there."""
        with self._lock:
            self._open.pop(connection, None)

    def opened_before(self, instant: float) -> list[C]:
        """The connections that were added before an instant of the same clock."""
        with self._lock:
            return [connection for connection, (_, since) in self._open.items() if since < instant]
