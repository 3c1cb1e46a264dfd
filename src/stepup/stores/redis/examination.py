"""What an operator has to know of a Redis or Valkey before a server uses it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from redis.exceptions import NoPermissionError

from stepup.service.ports import Clock
from stepup.stores.clock_offsets import clock_offset
from stepup.stores.redis.cluster import Cluster
from stepup.stores.redis.connection import Client, answering
from stepup.stores.redis.keyspace import probe_key

_PROBE_SECONDS: Final = 5
# One for each pattern of the ACL in docs/operating.md.
_KEYS: Final = ("e{-probe}", "r{-probe}", "o{-probe}", probe_key(0), "l-probe", "p-probe")
_READ: Final = "return redis.call('GET', KEYS[1])"


async def try_rights(client: Client) -> None:
    """Send each command of a server for each kind of key. No key remains.

    Raises:
        StoreUnavailableError: the store cannot be reached, refuses a command or a key, or takes no
            writes.
    """
    async with answering(client, _PROBE_SECONDS):
        for key in _KEYS:
            await client.set(key, b"", ex=_PROBE_SECONDS)
            await client.eval(_READ, 1, key)
            await client.get(key)
            await client.mget([key])
            await client.getdel(key)
            await client.delete(key)


async def redis_clock_offset(client: Client, clock: Clock) -> timedelta:
    """How far the clock of the server is ahead of ours; in a cluster, the one that is farthest off.

    Raises:
        StoreUnavailableError: the store cannot be reached, or denies the command TIME.
    """
    if not isinstance(client, Cluster):

        async def read() -> datetime:
            async with answering(client):
                return _instant(await client.time())

        return await clock_offset(read, clock)
    await client.initialize()
    offsets = []
    for node in client.get_primaries():

        async def read_of_node(node: Any = node) -> datetime:
            async with answering(client):
                return _instant(await client.time(target_nodes=node))

        offsets.append(await clock_offset(read_of_node, clock))
    return max(offsets, key=abs)


async def durability_problems(client: Client) -> list[str] | None:
    """Why the server may lose what it has acknowledged, in sentences for operators.

    Returns:
        None if the user may not run INFO; the server's own user needs no such right.

    Raises:
        StoreUnavailableError: the store cannot be reached.
    """
    async with answering(client):
        try:
            facts = {**await client.info("persistence"), **await client.info("memory")}
        except NoPermissionError:
            return None
    return list(_problems(facts))


def _problems(facts: Mapping[str, Any]) -> Iterator[str]:
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory") and policy != "noeviction":
        yield (
            f"removes keys when its memory is full (maxmemory-policy {policy}), and people are"
            " asked again: set noeviction"
        )
    if not facts.get("aof_enabled"):
        yield (
            "has no append-only file, so a restart forgets elevations and people are asked again:"
            " set appendonly yes, or have a replica"
        )


def _instant(answer: tuple[int, int]) -> datetime:
    seconds, microseconds = answer
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
