"""The durable store: transactions, snapshots, and the feed, each on connections of its own."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from uuid import uuid4

from prometheus_client import Gauge
from sqlalchemy import bindparam, text

from stepup.domain.actor import TenantId
from stepup.service.ports import Records
from stepup.stores.latency import measured
from stepup.stores.sql.asked_people import SqlAskedPeople
from stepup.stores.sql.audit import SqlAuditTrail
from stepup.stores.sql.authenticators import SqlAuthenticators, SqlResetCodes
from stepup.stores.sql.challenges import SqlChallenges
from stepup.stores.sql.changes import SqlChangeFeed
from stepup.stores.sql.connection import Connection
from stepup.stores.sql.engine import (
    is_sqlite,
    parse_url,
    read_engine,
    write_engine,
)
from stepup.stores.sql.enrollments import SqlPendingEnrollments
from stepup.stores.sql.key_uses import SqlKeyUses
from stepup.stores.sql.limits import Limits
from stepup.stores.sql.people import (
    SqlEventClients,
    SqlPastAuthenticators,
    SqlPeople,
)
from stepup.stores.sql.policies import SqlAccounts, SqlPolicies
from stepup.stores.sql.pool import ConnectionPool, PrimaryFence
from stepup.stores.sql.redemptions import SqlRedemptions
from stepup.stores.sql.tables import accounts

_PROBE = accounts.insert().values(
    tenant_id=bindparam("tenant_id"), user_id=bindparam("user_id"), mfa_enabled=False
)
_PROBE_REMOVED = accounts.delete().where(
    accounts.c.tenant_id == "", accounts.c.user_id == bindparam("user_id")
)

# An ordinary role may read both; of other sessions it sees that they exist.
_STANDBYS_MAY_LACK_COMMITS = text(
    "SELECT current_setting('synchronous_standby_names') = '' AS asynchronous,"
    " EXISTS (SELECT FROM pg_stat_replication) AS has_standbys"
)
_standbys_may_lack_commits = Gauge(
    "stepup_database_standbys_may_lack_commits",
    "1 while PostgreSQL has standbys and no commit waits for one: one may forget used codes.",
    multiprocess_mode="livemax",
)


class SqlDatabase:
    """Implements `Database` on SQLite or PostgreSQL. Belongs to one event loop.

    All connections lead to one primary; one that leads to another is refused (S28).

    Args:
        url: `sqlite:///<path>` or `postgresql://...`. Nothing is opened yet.
        limits: how many connections there are, and how long anything may wait.

    Raises:
        ValueError: the URL is of another kind.
    """

    def __init__(self, url: str, limits: Limits = Limits()) -> None:
        parsed = parse_url(url)
        writing = replace(limits, connections=1) if is_sqlite(parsed) else limits  # one writer
        reserved = replace(limits, connections=1)
        engines = (
            write_engine(parsed, writing),
            read_engine(parsed, limits),
            read_engine(parsed, reserved),
        )
        if not is_sqlite(parsed):
            fence = PrimaryFence()
            for engine in engines:
                fence.guard(engine)
        self._writing = ConnectionPool(parsed, engines[0], writing, in_transaction=True)
        self._reading = ConnectionPool(parsed, engines[1], limits, in_transaction=False)
        self._following = ConnectionPool(parsed, engines[2], reserved, in_transaction=False)

    @asynccontextmanager
    async def transaction(self, tenant_id: TenantId | None = None) -> AsyncIterator[Records]:
        with measured("sql_transaction"):
            async with self._writing.borrow(tenant_id) as connection:
                yield _records(connection)
                await connection.commit()

    def snapshot(self, tenant_id: TenantId | None = None) -> AbstractAsyncContextManager[Records]:
        return _snapshot(self._reading, tenant_id)

    def reserved_snapshot(self) -> AbstractAsyncContextManager[Records]:
        return _snapshot(self._following)

    async def check_writes(self) -> None:
        """Commit a row that the same transaction removes.

        A metric says whether a standby may lack what was committed (S28).

        Raises:
            StoreUnavailableError: the database is read-only, full, locked or gone.
        """
        user = {"tenant_id": "", "user_id": str(uuid4())}  # nobody's: ids are not empty
        async with self._writing.borrow() as connection:
            await connection.write(_PROBE, **user)
            await connection.write(_PROBE_REMOVED, user_id=user["user_id"])
            if not connection.is_sqlite:
                _standbys_may_lack_commits.set(await _may_lack_commits(connection))
            await connection.commit()

    async def standbys_may_lack_commits(self) -> bool:
        """Whether PostgreSQL has standbys, and no commit waits for one (S28); no for SQLite.

        Raises:
            StoreUnavailableError: the database cannot be reached.
        """
        async with self._writing.borrow() as connection:
            return not connection.is_sqlite and await _may_lack_commits(connection)

    async def close(self) -> None:
        """Wait until transactions and snapshots have ended, then close all connections."""
        for pool in (self._writing, self._reading, self._following):
            await pool.close()


async def _may_lack_commits(connection: Connection) -> bool:
    [found] = await connection.fetch_all(
        _STANDBYS_MAY_LACK_COMMITS, lambda row: bool(row.asynchronous and row.has_standbys)
    )
    return found


@asynccontextmanager
async def _snapshot(
    pool: ConnectionPool, tenant_id: TenantId | None = None
) -> AsyncIterator[Records]:
    with measured("sql_snapshot"):
        async with pool.borrow(tenant_id) as connection:
            yield _records(connection)


def _records(connection: Connection) -> Records:
    return Records(
        authenticators=SqlAuthenticators(connection),
        reset_codes=SqlResetCodes(connection),
        pending=SqlPendingEnrollments(connection),
        policies=SqlPolicies(connection),
        accounts=SqlAccounts(connection),
        redemptions=SqlRedemptions(connection),
        challenges=SqlChallenges(connection),
        people=SqlPeople(connection),
        asked=SqlAskedPeople(connection),
        past=SqlPastAuthenticators(connection),
        audit=SqlAuditTrail(connection),
        clients=SqlEventClients(connection),
        changes=SqlChangeFeed(connection),
        key_uses=SqlKeyUses(connection),
    )
