"""Real stores that are made for one test, the time, and workers over them."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis

from stepup.domain.errors import StoreUnavailableError
from stepup.settings import Settings, StorageSettings, VerificationSettings
from stepup.settings.portal import PortalSettings
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.stores.redis import (
    RedisCallerRates,
    RedisElevations,
    RedisPortalSessions,
    RedisRecordedOutcomes,
)
from stepup.stores.sql import SqlDatabase, upgrade
from stepup.wiring.stores import Stores
from stepup_tests.clock import ManualClock
from stepup_tests.faults import (
    FaultyCallerRates,
    FaultyDatabase,
    FaultyDecisionLog,
    FaultyElevations,
    FaultyOutcomes,
    FaultyPortalSessions,
)
from stepup_tests.keys import fresh_ring
from stepup_tests.worker import Worker

PORTAL = PortalSettings(public_url="https://mfa.example")


def migrated_template(directory: Path) -> Path:
    """An empty database of today's schema, to be copied: migrating takes longer than a test."""
    path = directory / "template.db"
    asyncio.run(upgrade(f"sqlite:///{path}"))
    return path


class World:
    """What the workers of one deployment share."""

    def __init__(self, directory, database, redis):
        self.directory = directory
        self.clock = ManualClock()
        self.redis = redis
        self.database = FaultyDatabase(database)
        self.keys = fresh_ring()
        self.elevations = FaultyElevations(RedisElevations(redis, self.keys))
        self.outcomes = FaultyOutcomes(RedisRecordedOutcomes(redis, self.keys))
        # A machine that is busy with other tests makes nobody give up.
        self.rates = FaultyCallerRates(RedisCallerRates(redis, patience=timedelta(seconds=60)))
        self.portal_sessions = FaultyPortalSessions(RedisPortalSessions(redis, self.keys))
        self._log = JsonLinesDecisionLog.open(directory / "decisions.jsonl")
        self.decision_log = FaultyDecisionLog(self._log)

    @property
    def stores(self):
        return Stores(
            self.database,
            self.elevations,
            self.outcomes,
            self.rates,
            self.portal_sessions,
            self.keys,
            self.decision_log,
        )

    def settings(self, *, portal=PORTAL, **verification):
        return Settings(
            storage=StorageSettings(data_dir=self.directory),
            verification=VerificationSettings(**verification),
            portal=portal,
        )

    async def worker(self, **settings):
        """A worker that has just started: it knows what the feed says, and no policy yet."""
        worker = Worker(self.stores, self.settings(**settings), self.clock)
        await worker.poll()
        return worker

    def decisions(self):
        """The decision log, line by line."""
        lines = (self.directory / "decisions.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def sql(self, statement, *parameters):
        """Run a statement past the service."""
        with closing(sqlite3.connect(self.directory / "stepup.db")) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def tables(self):
        """Every row of every table."""
        names = self.sql("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name: self.sql(f"SELECT * FROM {name}") for (name,) in names}  # noqa: S608

    async def remembered(self):
        """What Redis holds, by key."""
        return {key: await self.redis.get(key) for key in await self.redis.keys()}

    async def remember(self, contents):
        """Put back what Redis held: it has failed over to a replica that lags."""
        await self.redis.flushall()
        for key, value in contents.items():
            await self.redis.set(key, value, ex=900)

    async def state(self):
        """All that is stored anywhere, for comparison."""
        return self.tables(), await self.remembered()

    async def refuses(self, call, error=StoreUnavailableError):
        """Await a call that fails and changes nothing that is stored; returns its error."""
        before = await self.state()
        with pytest.raises(error) as refused:
            await call
        assert await self.state() == before
        return refused.value

    def close(self):
        self._log.close()


@asynccontextmanager
async def made_for_one_test(directory, template):
    """A world in a directory, over a copy of the template."""
    path = directory / "stepup.db"
    shutil.copy(template, path)
    database = SqlDatabase(f"sqlite:///{path}")
    redis = FakeRedis(server=FakeServer())
    world = World(directory, database, redis)
    yield world
    world.close()
    await redis.aclose()
    await database.close()


@asynccontextmanager
async def world_on(url, directory):
    """A world whose durable store is PostgreSQL."""
    database, redis = SqlDatabase(url), FakeRedis(server=FakeServer())
    world = World(directory, database, redis)
    try:
        yield world
    finally:
        world.close()
        await redis.aclose()
        await database.close()
