"""The buckets of callers with a rate: one key each, gone when the bucket is full again."""

from datetime import timedelta

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.rate import Rate
from stepup.stores.redis.connection import Client, answering
from stepup.stores.redis.keyspace import rate_key

PATIENCE = timedelta(milliseconds=250)
"""Far more than a healthy server takes, and little enough for a call to wait in vain."""

# `Rate.spend`, with the server's own clock. Numbers in Lua are doubles, exact up to 2^53: whole
# microseconds since 1970 fit until the year 2255. They are written with all their digits, which Lua
# would not do by itself.
_SPEND = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, tolerance, horizon, cost = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local arrival = tonumber(redis.call('GET', KEYS[1]) or 0) or 0
if not (now <= arrival and arrival <= now + horizon) then arrival = now end
local wait = arrival - tolerance - now
if wait > 0 then return wait end
arrival = arrival + cost * interval
local lifetime = math.ceil((arrival - now) / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', string.format('%.0f', lifetime))
return 0
"""


class RedisCallerRates:
    """Callers' rates in Redis or Valkey, version 7 or later; implements the port `CallerRates`.

    A call waits for the server at most for `patience`.
    """

    def __init__(self, client: Client, *, patience: timedelta = PATIENCE) -> None:
        self._client = client
        self._patience = patience.total_seconds()

    async def spend(
        self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int
    ) -> timedelta | None:
        # The whole script each time, as a server that restarted does not know it by its digest, and
        # asking twice would be two round trips.
        async with answering(self._client, self._patience):
            wait = await self._client.eval(
                _SPEND,
                1,
                rate_key(caller_id, tenant_id, rate),
                rate.interval,
                rate.tolerance,
                rate.horizon,
                cost,
            )
        return timedelta(microseconds=wait) if wait else None
