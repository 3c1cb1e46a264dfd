"""The live elevations: one key per session, and one mark per user who was revoked."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import orjson

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.instants import microseconds
from stepup.service.ports import Keys
from stepup.stores.redis.authentic_values import AuthenticValues, elevation_fields, read_elevation
from stepup.stores.redis.batched_reads import reads_of
from stepup.stores.redis.cluster import Cluster
from stepup.stores.redis.connection import Client, answering
from stepup.stores.redis.keyspace import elevation_key, probe_key, revocation_key, session_keys

_PROBES = 256
"""Enough keys to reach every server of a cluster."""
_PROBE_SECONDS = 5
_MARK_LIFETIME = LIFETIME + timedelta(minutes=5)
"""Longer than the elevations that it voids: one may be written just after the mark."""

# The mark is never lowered. It has a fixed width, so that its order is that of its text; as a
# number in Lua it would lose microseconds. Each revocation restarts the mark's lifetime.
_RAISE_MARK = """
local mark = redis.call('GET', KEYS[1])
if not mark or mark < ARGV[1] then mark = ARGV[1] end
redis.call('SET', KEYS[1], mark, 'EX', ARGV[2])
"""
_MARK_WIDTH = 18  # digits, enough for the last microsecond of the year 9999


class RedisElevations:
    """Elevations in Redis or Valkey, version 7 or later; implements the port `Elevations`.

    Args:
        keys: the ring whose MAC makes an elevation count (S25).
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._values = AuthenticValues(keys)
        self._reads = reads_of(client)

    async def ping(self) -> None:
        """In a cluster, the master of every slot answers."""
        async with answering(self._client):
            if isinstance(self._client, Cluster):
                await self._client.ping(target_nodes=Cluster.PRIMARIES)
            else:
                await self._client.ping()

    async def check_writes(self) -> None:
        """Write a key that expires after some seconds, in a cluster to the master of every slot.

        A replica refuses, and a server without memory or with too few replicas does.
        """
        async with answering(self._client):
            for key in await self._probe_keys():
                await self._client.set(key, b"", ex=_PROBE_SECONDS)

    async def _probe_keys(self) -> Iterable[str]:
        if not isinstance(self._client, Cluster):
            return (probe_key(0),)
        await self._client.initialize()  # to know the slots of each server
        numbered = map(probe_key, reversed(range(_PROBES)))
        return {self._client.server_of(key): key for key in numbered}.values()

    async def replace(self, elevation: Elevation) -> None:
        owner = elevation.tenant_id, elevation.user_id, elevation.session_hash
        key = elevation_key(*owner)
        value = self._values.sign(key, owner, orjson.dumps(elevation_fields(elevation)))
        async with answering(self._client):
            await self._client.set(key, value, ex=LIFETIME)

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> Elevation | None:
        """See `Elevations`.

        The mark of a revocation has no MAC: it can void elevations and nothing else. A mark that
        was deleted or lowered is like one that Redis lost, for which there is the change feed.
        """
        keys = session_keys(tenant_id, user_id, session_hash)
        stored, mark = await self._reads.read(keys)
        if stored is None:
            return None
        payload = self._values.open(keys[0], (tenant_id, user_id, session_hash), stored)
        if payload is None:
            return None
        try:
            elevation = read_elevation(orjson.loads(payload), tenant_id, user_id, session_hash)
            revoked_through = None if mark is None else int(mark)
        except ValueError:
            return None
        if elevation is None or revoked_through is None:
            return elevation
        return elevation if microseconds(elevation.verified_at) > revoked_through else None

    async def revoke_session(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> None:
        async with answering(self._client):
            await self._client.delete(elevation_key(tenant_id, user_id, session_hash))

    async def revoke_user(self, tenant_id: TenantId, user_id: UserId, through: datetime) -> None:
        mark = f"{microseconds(through):0{_MARK_WIDTH}d}"
        lifetime = int(_MARK_LIFETIME.total_seconds())
        async with answering(self._client):
            await self._client.eval(
                _RAISE_MARK, 1, revocation_key(tenant_id, user_id), mark, lifetime
            )
