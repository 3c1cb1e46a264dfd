"""Charges callers for their calls, and refuses calls beyond their rates.

A rate stops one caller from using up the service for others. It does not protect codes: these
have their own throttle in SQL (S4). So a call that cannot be counted is not refused: while Redis
does not answer, each worker counts by itself, and a caller has its rate once per worker. A refusal
would make every decision depend on Redis, against S17.
"""

from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import Counter

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.errors import CallerRateLimitedError, StoreUnavailableError
from stepup.domain.rate import Rate
from stepup.service.ports import CallerRates, Clock

REST_SECONDS: Final = 1.0
"""The pause after a failure of the shared counter; then one call tries it again."""

_log = structlog.get_logger(__name__)
_limited = Counter(
    "stepup_caller_rate_limited",
    "Calls that were refused: the caller is over its rate.",
    ["caller"],
)
_unknown = Counter(
    "stepup_caller_rate_unknown",
    "Calls that one worker counted by itself, because Redis did not answer.",
)


class CallerLimits:
    """Charges callers for their calls.

    Args:
        shared: the counter of all workers.
        alone: the counter of this worker; it never fails.
        clock: the time of the next attempt with `shared`.
    """

    def __init__(self, shared: CallerRates, alone: CallerRates, clock: Clock) -> None:
        self._shared = shared
        self._alone = alone
        self._clock = clock
        self._ask_again_at: float | None = None

    async def spend(self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int) -> None:
        """Charge a call that counts as `cost` calls.

        Raises:
            CallerRateLimitedError: the caller is over its rate.
        """
        wait = await self._count(caller_id, tenant_id, rate, cost)
        if wait is not None:
            _limited.labels(caller_id).inc()
            raise CallerRateLimitedError(wait)

    async def _count(
        self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int
    ) -> timedelta | None:
        if self._may_ask():
            try:
                wait = await self._shared.spend(caller_id, tenant_id, rate, cost)
            except StoreUnavailableError as error:
                self._rest(error)
            else:
                self._resume()
                return wait
        _unknown.inc()
        return await self._alone.spend(caller_id, tenant_id, rate, cost)

    def _may_ask(self) -> bool:
        if self._ask_again_at is None:
            return True
        now = self._clock.monotonic()
        if now < self._ask_again_at:
            return False
        # Only this call tries the store; others do not wait for it.
        self._ask_again_at = now + REST_SECONDS
        return True

    def _rest(self, error: StoreUnavailableError) -> None:
        if self._ask_again_at is None:
            _log.warning("caller_rates_are_not_shared", problem=str(error))
        self._ask_again_at = self._clock.monotonic() + REST_SECONDS

    def _resume(self) -> None:
        if self._ask_again_at is not None:
            _log.info("caller_rates_are_shared_again")
            self._ask_again_at = None
