"""Real stores, which one module of tests shares: an embedded Valkey and either database."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import pytest_asyncio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from stepup_tests.callers import all_powerful
from stepup_tests.clock import ManualClock
from stepup_tests.keys import fresh_ring
from stepup_tests.postgres import backend, new_database, postgres, postgres_template
from stepup_tests.racy import RacyCallerRates, RacyDatabase
from stepup_tests.wire import Client, served
from stepup_tests.worker import Worker

from stepup.domain.rate import Rate
from stepup.rpc.pipeline.call import AdmittedCaller
from stepup.settings import Settings, StorageSettings
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.stores.embedded_valkey import EmbeddedValkey
from stepup.stores.redis import (
    RedisCallerRates,
    RedisElevations,
    RedisPortalSessions,
    RedisRecordedOutcomes,
)
from stepup.stores.sql import Limits, SqlDatabase, upgrade
from stepup.wiring.stores import Stores

__all__ = ["backend", "postgres", "postgres_template"]

CONNECTIONS = 8
PATIENCE = timedelta(seconds=60)
"""A machine that is busy with other tests makes nobody give up."""
RATE = Rate(per_second=0.1, burst=50)
"""Of callers that give themselves a name."""


async def admit(invocation):
    """Take everybody alike, but for the rate."""
    name = invocation.header("x-caller")
    caller = replace(all_powerful(name), rate=RATE) if name else all_powerful()
    return AdmittedCaller(caller, ())


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
    crowd: int
    """How many calls are made in parallel."""
    rate: Rate = RATE

    async def at_once(self, call):
        """Make calls in parallel over all connections; an error is an answer here, too."""
        calls = (call(self.clients[index % CONNECTIONS]) for index in range(self.crowd))
        return await asyncio.gather(*calls, return_exceptions=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(tmp_path_factory):
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        seconds = PATIENCE.total_seconds()
        pool = BlockingConnectionPool.from_url(
            valkey.url,
            max_connections=64,
            timeout=seconds,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
        )
        async with Redis.from_pool(pool) as redis:
            yield redis


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(tmp_path_factory, redis, backend):
    directory = tmp_path_factory.mktemp("race")
    if backend is None:
        url = f"sqlite:///{directory / 'stepup.db'}"
        await upgrade(url)
        async with _stores(directory, url, redis) as stores:
            yield stores
    else:
        async with new_database(*backend) as url, _stores(directory, url, redis) as stores:
            yield stores


@asynccontextmanager
async def _stores(directory, url, redis):
    database = SqlDatabase(url, Limits.lasting(PATIENCE))
    log = JsonLinesDecisionLog.open(directory / "decisions.jsonl")
    keys = fresh_ring()
    yield Stores(
        database,
        RedisElevations(redis, keys),
        RedisRecordedOutcomes(redis, keys),
        RedisCallerRates(redis, patience=PATIENCE),
        RedisPortalSessions(redis, keys),
        keys,
        log,
    )
    log.close()
    await database.close()


@asynccontextmanager
async def _opened(stores, served_stores, directory, crowd):
    settings, clock = Settings(storage=StorageSettings(data_dir=directory)), ManualClock()
    async with AsyncExitStack() as stack:
        serving = Worker(served_stores, settings, clock)
        server = await stack.enter_async_context(served(serving, admit))
        clients = []
        for _ in range(CONNECTIONS):
            client = Client(server.target, [("grpc.use_local_subchannel_pool", 1)])
            stack.push_async_callback(client.close)
            clients.append(client)
        preparing = Preparing(stores, settings, clock, serving)
        await preparing.poll()
        yield Arena(preparing, clients, crowd)


@pytest.fixture(scope="module", params=[60, pytest.param(200, marks=pytest.mark.slow)])
def crowd(request):
    """How many calls race; a few more than the burst that a caller's rate lets through."""
    return request.param


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(stores, tmp_path_factory, crowd):
    async with _opened(stores, stores, tmp_path_factory.mktemp("arena"), crowd) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def racy_arena(stores, redis, tmp_path_factory, crowd):
    racy = replace(stores, database=RacyDatabase(stores.database), rates=RacyCallerRates(redis))
    async with _opened(stores, racy, tmp_path_factory.mktemp("racy"), crowd) as arena:
        yield arena
