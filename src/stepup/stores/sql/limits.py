"""How many connections a database gets, and how long anything may wait for it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

_CONNECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that keep a slow database from stopping everything else.

    Args:
        connections: how many reads run at once, and on PostgreSQL as many transactions beside them.
        wait: how long to wait for a free connection, and for a new one to open.
        statement: how long PostgreSQL may work on a statement.
        lock: how long a statement may wait for a lock.
    """

    connections: int = _CONNECTIONS
    wait: timedelta = timedelta(seconds=2)
    statement: timedelta = timedelta(seconds=3)
    lock: timedelta = timedelta(seconds=2)

    @classmethod
    def lasting(cls, patience: timedelta, connections: int = _CONNECTIONS) -> Self:
        """Limits with the same time for every wait."""
        return cls(connections, patience, patience, patience)
