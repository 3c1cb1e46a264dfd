"""Attempts with codes: their limit, and those that are refused without a look at the code."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.service.calls.context import Context
from stepup.service.calls.limits import TenantShare
from stepup.service.ports import Records

MAX_ATTEMPTS: Final = 32
MAX_ATTEMPTS_OF_TENANT: Final = 8
"""Twice as many as PostgreSQL runs transactions of a tenant: further ones would only wait there."""

_T = TypeVar("_T")


class Attempts(Generic[_T]):
    """Gives each attempt a turn. From then on the attempt runs to its end, even without its call.

    A call that is cancelled before its turn makes no attempt. So attempts under way are never more
    than turns, however many calls clients make and cancel.

    Args:
        limit: how many attempts may be under way.
        of_tenant: how many of them may be of one tenant.
    """

    def __init__(self, limit: int = MAX_ATTEMPTS, of_tenant: int = MAX_ATTEMPTS_OF_TENANT) -> None:
        self._turns = TenantShare(of_tenant, in_all=limit)
        self._under_way: set[asyncio.Task[_T]] = set()

    async def make(self, tenant: TenantId, attempt: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a turn, then make the attempt, and finish it even if the call is cancelled.

        An attempt that gets no turn is closed. This call raises the errors of the attempt.
        """
        try:
            await self._turns.take(tenant)
        except BaseException:
            attempt.close()
            raise
        task = asyncio.create_task(attempt)
        self._under_way.add(task)
        task.add_done_callback(lambda done: self._finish(tenant, done))
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for the attempts whose calls were cancelled."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _finish(self, tenant: TenantId, task: asyncio.Task[_T]) -> None:
        self._under_way.discard(task)
        self._turns.give_back(tenant)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it; a call that waits gets it too


async def record_refusal(
    records: Records,
    context: Context,
    authenticator: Authenticator,
    cause: Attempt,
    codes: str,
    **purpose: str,
) -> None:
    """Record a refused attempt, unless an event of this person is less than a minute old.

    All workers together write at most one event a minute for a person. `codes` names the throttle
    that refused: `one_time` or `reset`. `purpose` is that of the `CodeEffect`.
    """
    updated = authenticator.refused(context.now)
    if updated is None:
        return
    await records.authenticators.save(updated)
    await records.audit.append(
        context.event(
            EventKind.ATTEMPTS_REFUSED,
            None,
            enrollment_id=updated.enrollment_id,
            codes=codes,
            cause=cause.value,
            **purpose,
        )
    )
