"""One primary at a time: a process that two of them answer believes the later one only (S28)."""

from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.engine import terminated_on_failure

_log = structlog.get_logger(__name__)

# None of it changes while the server runs: it was a primary when the connection was opened.
_SERVER: Final = """
    SELECT (SELECT system_identifier FROM pg_control_system())::text,
        ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
        extract(epoch FROM pg_postmaster_start_time())::text
"""


class Server(NamedTuple):
    """One run of a PostgreSQL server. A promotion counts the timeline up."""

    system: str
    timeline: int
    started: str


class PrimaryFence:
    """Lets the connections of a process lead to one primary only.

    After a fail-over the primary of before may still answer, or answer again. Its timeline is lower
    than that of the promoted standby. It is refused, and so is every server that was left for
    another one, until the process ends: of two that answer in turn one at most is right.
    """

    def __init__(self) -> None:
        self._current: Server | None = None
        self._left: set[Server] = set()
        self._timelines: dict[str, int] = {}
        self._logged: set[Server] = set()

    def admit(self, server: Server) -> None:
        """Make this the server that counts, unless it was left or has a lower timeline.

        Raises:
            StoreUnavailableError: it is refused.
        """
        if server == self._current:
            return
        highest = self._timelines.get(server.system, server.timeline)
        if server in self._left or server.timeline < highest:
            if server not in self._logged:
                self._logged.add(server)
                _log.error(
                    "database_server_refused",
                    timeline=server.timeline,
                    known_timeline=highest,
                    explanation="another primary was promoted, or answers in turn with this one:"
                    " stop the wrong primary; restart stepup if it refuses the right one",
                )
            raise StoreUnavailableError("the database server is not the one that was promoted")
        if self._current is not None:
            self._left.add(self._current)
        self._current = server
        self._timelines[server.system] = server.timeline

    def is_current(self, server: Server) -> bool:
        """Whether a connection to this server may be used."""
        return server == self._current

    def guard(self, engine: AsyncEngine) -> None:
        """Refuse connections of an engine that lead to another primary, new and pooled ones."""

        def admit_new(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
            driver: Any = connection
            with terminated_on_failure(driver):
                row = await_only(driver.driver_connection.fetchrow(_SERVER))
                entry.info["server"] = Server(*row)
                self.admit(entry.info["server"])

        def refuse_other(
            _: DBAPIConnection, entry: ConnectionPoolEntry, __: PoolProxiedConnection
        ) -> None:
            if not self.is_current(entry.info["server"]):
                raise DisconnectionError

        event.listen(engine.sync_engine, "connect", admit_new)
        event.listen(engine.sync_engine, "checkout", refuse_other)
