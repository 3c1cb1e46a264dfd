"""Real stores, which one module of tests shares: SQLite on disk and an embedded Valkey."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest_asyncio
from support.clock import ManualClock
from support.racy import RacyDatabase
from support.wire import Client, served
from support.worker import Worker

from stepup.bootstrap import Stores
from stepup.config import Settings, StorageSettings
from stepup.keys import KeyRing
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.redis import RedisElevations, RedisRecordedOutcomes, connect
from stepup.stores.sql import SqlDatabase, upgrade

CONNECTIONS = 8


class Preparing(Worker):
    """When it lets time pass, what the server knows stays fresh, too."""

    def __init__(self, stores, settings, clock, serving):
        super().__init__(stores, settings, clock)
        self._serving = serving

    async def poll(self):
        await super().poll()
        await self._serving.poll()


@dataclass
class Arena:
    """A server, the connections to it, and a worker beside it that prepares and inspects."""

    worker: Worker
    clients: list[Client]

    async def at_once(self, call, number=200):
        """Make calls in parallel over all connections; an error is an answer here, too."""
        calls = (call(self.clients[index % CONNECTIONS]) for index in range(number))
        return await asyncio.gather(*calls, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(tmp_path_factory):
    directory = tmp_path_factory.mktemp("race")
    url = f"sqlite:///{directory / 'stepup.db'}"
    await upgrade(url)
    # A machine that is busy with other tests makes nobody give up.
    database = SqlDatabase(url, patience=timedelta(seconds=60))
    log = JsonLinesDecisionLog.open(directory / "decisions.jsonl")
    with EmbeddedValkey(directory / "valkey") as valkey:
        redis = connect(valkey.url)
        yield Stores(
            database, RedisElevations(redis), RedisRecordedOutcomes(redis), KeyRing.generate(), log
        )
        await redis.aclose()
    log.close()
    await database.close()


@asynccontextmanager
async def _opened(stores, database, directory):
    settings, clock = Settings(storage=StorageSettings(data_dir=directory)), ManualClock()
    async with AsyncExitStack() as stack:
        serving = Worker(replace(stores, database=database), settings, clock)
        server = await stack.enter_async_context(served(serving))
        clients = []
        for _ in range(CONNECTIONS):
            client = Client(server.target, [("grpc.use_local_subchannel_pool", 1)])
            stack.push_async_callback(client.close)
            clients.append(client)
        preparing = Preparing(stores, settings, clock, serving)
        await preparing.poll()
        yield Arena(preparing, clients)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(stores, tmp_path_factory):
    async with _opened(stores, stores.database, tmp_path_factory.mktemp("arena")) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def racy_arena(stores, tmp_path_factory):
    racy = RacyDatabase(stores.database)
    async with _opened(stores, racy, tmp_path_factory.mktemp("racy")) as arena:
        yield arena
