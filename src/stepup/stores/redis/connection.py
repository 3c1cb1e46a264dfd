"""How the server is reached, and what becomes of it when it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.latency import measured

Client: TypeAlias = Redis | RedisCluster

ANSWER_SECONDS = 1.0
"""How long a caller waits for the store, whatever the client's own settings are."""

_SOCKET_SECONDS = 0.5


def connect(url: str, *, max_connections: int = 64) -> Redis:
    """Make a client; it connects when it is first used. Close it with `await client.aclose()`.

    Args:
        url: `redis://host:port/db` or `unix:///path`.
        max_connections: how many calls are under way at most; further ones wait for their turn.

    Raises:
        ValueError: the URL is of another kind.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=_SOCKET_SECONDS,
        socket_timeout=_SOCKET_SECONDS,
        socket_connect_timeout=_SOCKET_SECONDS,
        # A claim whose answer was lost would find itself when it is sent again.
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def answering(within_seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Bound what is done in the block, and let no driver's exception out.

    Raises:
        StoreUnavailableError: the server cannot be reached, refuses, or does not answer in time.
    """
    with measured("redis"):
        try:
            async with asyncio.timeout(within_seconds):
                yield
        except (RedisError, RedisClusterException, OSError) as error:
            raise StoreUnavailableError("the store of elevations does not answer") from error
