"""The rates of callers in the memory of one worker, for the time that Redis does not answer."""

from datetime import timedelta
from typing import Final

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.rate import Rate
from stepup.service.ports import Clock

MAX_BUCKETS: Final = 10_000
_SECOND = 1_000_000


class MemoryCallerRates:
    """Callers' rates in memory; implements the port `CallerRates` for one worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals: dict[tuple[CallerId, TenantId, Rate], int] = {}

    async def spend(
        self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int
    ) -> timedelta | None:
        key = caller_id, tenant_id, rate
        now = int(self._clock.monotonic() * _SECOND)
        arrival, wait = rate.spend(self._arrivals.get(key, 0), now, cost)
        if wait:
            return timedelta(microseconds=wait)
        # To forget all buckets lets some calls through; unbounded memory would be worse (S18).
        if len(self._arrivals) >= MAX_BUCKETS:
            self._arrivals.clear()
        self._arrivals[key] = arrival
        return None
