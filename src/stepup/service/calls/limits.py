"""The limits on calls: a rate for each caller, a share for each tenant, a size for each answer.

A rate stops one caller from using up the service for others. It does not protect codes: these
have their own throttle in SQL (S4). So a call that cannot be counted is not refused: while Redis
does not answer, each worker counts by itself, and a caller has its rate once per worker. A refusal
would make every decision depend on Redis, against S17.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from stepup.domain.actor import CallerId, TenantId
from stepup.domain.errors import CallerRateLimitedError, OverloadedError, StoreUnavailableError
from stepup.domain.rate import Rate
from stepup.service.ports import CallerRates, Clock

_T = TypeVar("_T")
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
            _log.warning("caller_rates_are_not_shared", problem=error.fault)
        self._ask_again_at = self._clock.monotonic() + REST_SECONDS

    def _resume(self) -> None:
        if self._ask_again_at is not None:
            _log.info("caller_rates_are_shared_again")
            self._ask_again_at = None


@dataclass(slots=True)
class _Share:
    turns: asyncio.Semaphore
    calls: int = 0


class TenantShare:
    """Lets few calls of each tenant run and some wait, and refuses the others (S18).

    A call first waits for the calls of its tenant, and then for a place among the calls of all
    tenants. A tenant without a call uses no memory.

    Args:
        at_once: how many calls of one tenant run at a time or wait for a place among all.
        waiting: how many more of its calls may wait; None sets no limit.
        in_all: how many calls of all tenants run at a time; None sets no limit.
    """

    def __init__(
        self, at_once: int, waiting: int | None = None, *, in_all: int | None = None
    ) -> None:
        self._at_once = at_once
        self._calls = None if waiting is None else at_once + waiting
        self._all = None if in_all is None else asyncio.Semaphore(in_all)
        self._shares: dict[TenantId, _Share] = {}

    @asynccontextmanager
    async def turn(self, tenant_id: TenantId | None) -> AsyncIterator[None]:
        """Wait for a turn of the tenant, and hold it while the block runs.

        Raises:
            OverloadedError: too many calls of the tenant run and wait.
        """
        await self.take(tenant_id)
        try:
            yield
        finally:
            self.give_back(tenant_id)

    async def take(self, tenant_id: TenantId | None) -> None:
        """Wait for a turn of the tenant, and hold it until `give_back`.

        Args:
            tenant_id: None for work without a tenant, which only counts among all.

        Raises:
            OverloadedError: too many calls of the tenant run and wait.
        """
        if tenant_id is not None:
            await self._take_of_tenant(tenant_id)
        if self._all is not None:
            try:
                await self._all.acquire()
            except BaseException:
                self._give_back_to_tenant(tenant_id)
                raise

    def give_back(self, tenant_id: TenantId | None) -> None:
        """End a turn of `take`."""
        if self._all is not None:
            self._all.release()
        self._give_back_to_tenant(tenant_id)

    async def _take_of_tenant(self, tenant_id: TenantId) -> None:
        share = self._shares.setdefault(tenant_id, _Share(asyncio.Semaphore(self._at_once)))
        if share.calls == self._calls:
            raise OverloadedError("too many calls of this tenant are in flight; try again")
        share.calls += 1
        try:
            await share.turns.acquire()
        except BaseException:
            self._leave(tenant_id, share)
            raise

    def _give_back_to_tenant(self, tenant_id: TenantId | None) -> None:
        if tenant_id is not None:
            share = self._shares[tenant_id]
            share.turns.release()
            self._leave(tenant_id, share)

    def _leave(self, tenant_id: TenantId, share: _Share) -> None:
        share.calls -= 1
        if not share.calls:
            del self._shares[tenant_id]


def share_of_pages() -> TenantShare:
    """A share for the pages of lists that a tenant may have many of.

    A page can take seconds, since a filter may match nothing. Half of the connections that
    `storage.database.connections` reserves for reads by default are left to other calls.
    """
    return TenantShare(at_once=2, waiting=30, in_all=4)


def first_that_fit(values: Sequence[_T], size: Callable[[_T], int], room: int) -> Sequence[_T]:
    """The first values that have room in one answer; the very first one always does (S18).

    gRPC clients take answers of 4 MiB by default.

    Args:
        values: in the order in which to answer.
        size: the bytes of a value.
        room: how many bytes all values may have.
    """
    for number, each in enumerate(values):
        room -= size(each)
        if room < 0 and number > 0:
            return values[:number]
    return values
