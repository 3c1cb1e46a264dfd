"""How the server is reached, and which error a call raises if the server does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Redis,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.latency import measured
from stepup.stores.redis.cluster import Cluster
from stepup.stores.redis.faults import describe_redis_fault
from stepup.stores.redis.tls import TlsConnection, TlsMasterConnection
from stepup.stores.redis.url import Login, RedisUrl, Tls, Topology, parse_url

Client: TypeAlias = Redis | Cluster
"""Of a single server, from Sentinel, or of a cluster. The owner of a client closes it."""

ANSWER_SECONDS = 1.0
"""How long a caller waits for the store, whatever the client's own settings are."""

_urls: WeakKeyDictionary[Client, RedisUrl] = WeakKeyDictionary()
"""What `connect` made each client of, for the sentences about its faults."""
_SOCKET_SECONDS = 0.5
_SENTINEL_SECONDS = 0.2
"""Sentinels are asked one after the other: when two of three hang, the third has its turn yet."""


def connect(url: str, *, max_connections: int = 64) -> Client:
    """Make a client; it connects when it is first used. Close it with `close`.

    Args:
        url: see `parse_url`.
        max_connections: how many calls are under way at a server at most; further ones wait for
            their turn.

    Raises:
        RedisUrlError: the URL cannot be used.
    """
    parsed = parse_url(url)
    client = _client(parsed, max_connections)
    _urls[client] = parsed
    return client


def _client(url: RedisUrl, max_connections: int) -> Client:
    match url.topology:
        case Topology.SINGLE:
            return Redis.from_pool(_pool(url, max_connections))
        case Topology.SENTINEL:
            return Redis.from_pool(_MasterPool(url, max_connections))
        case Topology.CLUSTER:
            return Cluster(
                url.addresses,
                max_connections,
                **_limits(),
                **_login(url.login),
                **(_tls(url.tls) | {"ssl": True} if url.tls else {}),
            )


async def close(client: Client) -> None:
    """Close all connections of a client.

    redis-py waits half a second for each connection, at the same time for all. On a busy machine
    some take longer: these are closed without a wait, and the end of a server is not a failure.
    """
    with suppress(RedisTimeoutError):
        await client.aclose()


@asynccontextmanager
async def answering(client: Client, within_seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Bound what is done in the block with a client, and let no driver's exception out.

    Raises:
        StoreUnavailableError: the server cannot be reached, refuses, or does not answer in time.
    """
    with measured("redis"):
        try:
            async with asyncio.timeout(within_seconds):
                yield
        except (RedisError, RedisClusterException, OSError) as error:
            url = _urls.get(client)
            raise StoreUnavailableError(
                "the store of elevations does not answer",
                describe_redis_fault(url, error) if url is not None else None,
            ) from error


def _pool(url: RedisUrl, max_connections: int) -> BlockingConnectionPool:
    if url.path is not None:
        place: dict[str, Any] = {"path": url.path, "connection_class": UnixDomainSocketConnection}
    else:
        [(host, port)] = url.addresses
        place = {"host": host, "port": port, "connection_class": Connection}
    if url.tls:
        place |= _tls(url.tls) | {"connection_class": TlsConnection}
    return BlockingConnectionPool(
        max_connections=max_connections,
        timeout=_SOCKET_SECONDS,
        db=url.database,
        **place,
        **_limits(),
        **_login(url.login),
    )


class _MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master that Sentinels name; each new one asks them who that is now.

    A connection that turns out to lead to a replica is closed by redis-py, and the call fails. When
    the Sentinels name another master, idle connections to the earlier one are closed, too.
    """

    def __init__(self, url: RedisUrl, max_connections: int) -> None:
        tls = _tls(url.tls) if url.tls else {}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            url.addresses,
            sentinel_kwargs=_limits(_SENTINEL_SECONDS) | _login(url.sentinel_login),
        )
        for sentinel in self._sentinel.sentinels if url.tls else ():
            sentinel.connection_pool.connection_class = TlsConnection
            sentinel.connection_pool.connection_kwargs |= tls
        super().__init__(  # type: ignore[no-untyped-call]
            url.master,
            self._sentinel,
            max_connections=max_connections,
            timeout=_SOCKET_SECONDS,
            db=url.database,
            connection_class=TlsMasterConnection if url.tls else SentinelManagedConnection,
            **tls,
            **_limits(),
            **_login(url.login),
        )

    async def aclose(self) -> None:
        """Close the connections to the Sentinels, too."""
        await super().aclose()
        await self._sentinel.aclose()


def _limits(seconds: float = _SOCKET_SECONDS) -> dict[str, Any]:
    return {
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        # A claim whose answer was lost would find itself when it is sent again.
        "retry": Retry(NoBackoff(), 0),
    }


def _login(login: Login) -> dict[str, Any]:
    return {"username": login.username, "password": login.password}


def _tls(tls: Tls) -> dict[str, Any]:
    return {
        "ssl_ca_certs": tls.ca_certs,
        "ssl_certfile": tls.certfile,
        "ssl_keyfile": tls.keyfile,
    }
