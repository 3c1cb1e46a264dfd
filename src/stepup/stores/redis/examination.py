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
    offsets = []
    for target in await _targets(client):

        async def read(target: Mapping[str, Any] = target) -> datetime:
            async with answering(client):
                return _instant(await client.time(**target))

        offsets.append(await clock_offset(read, clock))
    return max(offsets, key=abs)


async def durability_problems(client: Client) -> list[str] | None:
    """Why the server, or a master of the cluster, may lose what it has acknowledged, for operators.

    Returns:
        None if the user may not run INFO; the server's own user needs no such right.

    Raises:
        StoreUnavailableError: the store cannot be reached.
    """
    found: dict[str, None] = {}  # each problem once, in this order
    for target in await _targets(client):
        async with answering(client):
            try:
                facts = {
                    name: value
                    for section in ("persistence", "memory", "replication")
                    for name, value in (await client.info(section, **target)).items()
                }
            except NoPermissionError:
                return None
        found |= dict.fromkeys(_problems(facts))
    return list(found)


async def _targets(client: Client) -> list[dict[str, Any]]:
    """The arguments with which a command goes to each server that takes writes."""
    if not isinstance(client, Cluster):
        return [{}]
    async with answering(client):
        await client.initialize()
    return [{"target_nodes": node} for node in client.get_primaries()]


def _problems(facts: Mapping[str, Any]) -> Iterator[str]:
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory") and policy != "noeviction":
        yield (
            f"removes keys when its memory is full (maxmemory-policy {policy}), and people are"
            " asked again: set noeviction"
        )
    has_replicas = bool(facts.get("connected_slaves"))
    if not facts.get("aof_enabled") and not has_replicas:
        yield (
            "has no append-only file, so a restart forgets elevations and people are asked again:"
            " set appendonly yes, or have a replica"
        )
    # The server leaves this field out unless both settings that the sentence names are set.
    if has_replicas and "min_slaves_good_slaves" not in facts:
        yield (
            "has replicas, and takes writes while none of them follows. After a fail-over people"
            " are asked again, and a used link of the portal may open again within its two"
            " minutes: set min-replicas-to-write 1 and min-replicas-max-lag 10"
        )


def _instant(answer: tuple[int, int]) -> datetime:
    seconds, microseconds = answer
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)
