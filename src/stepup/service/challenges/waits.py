"""`AwaitChallenge`: callers wait until a challenge is answered or ends.

A worker that answers or ends a challenge wakes its own waits at once. For the work of other workers
it asks the database once a second, in one query for all its waits. The query reads states and not
changes. So the worker also finds a change that came while the database was down, or before the
client called this worker.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, unique
from typing import Final
from uuid import UUID

import prometheus_client
import structlog
from prometheus_client import Gauge, Histogram

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.errors import DrainingError, StoreUnavailableError, WaitingLimitError
from stepup.service.calls.context import Context
from stepup.service.calls.limits import TenantShare
from stepup.service.challenges.read import View, find_readable, view_of
from stepup.service.ports import Clock, Database

REPEAT_SECONDS: Final = 60.0
"""The time between two messages of a wait: proxies end streams that are silent for longer."""
MAX_OF_CALLER: Final = 500
"""How many calls of one caller may wait in one worker."""
# How many waits read their challenge at a time, in all and for one tenant. If many challenges end
# together, their waits leave the other connections to checks (S18).
_READS_AT_ONCE: Final = 2
_READS_OF_TENANT: Final = 1

_log = structlog.get_logger(__name__)
_waits = Gauge(
    "stepup_challenge_waits", "Calls that wait for a challenge.", multiprocess_mode="livesum"
)
_refused = prometheus_client.Counter(
    "stepup_challenge_waits_refused",
    "Waits that were refused, because too many of the caller's calls wait in the worker.",
    ["caller"],
)
_notice_seconds = Histogram(
    "stepup_challenge_notice_seconds",
    "The time from the answer or the end of a challenge until a wait sends it.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)


@unique
class _Notice(Enum):
    """Why the worker wakes a wait."""

    CHANGED = "the person may have answered the challenge, or the challenge may have ended"
    PENDING = "the latest poll found the challenge pending, and the wait has to repeat the state"
    UNREADABLE = "the latest poll failed, and the wait has to repeat the state"


@dataclass(slots=True, eq=False)
class _Wait:
    """Has no challenge: thousands of large challenges would fill the memory of a worker (S18)."""

    key: tuple[TenantId, UUID]
    expires_at: datetime
    repeat_at: float
    notice: _Notice | None = None
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self, notice: _Notice) -> None:
        if self.notice is not _Notice.CHANGED:
            self.notice = notice
        self.woken.set()


class Waits:
    """The waits of one worker."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._of_user: dict[tuple[TenantId, UserId], set[_Wait]] = {}
        self._of_caller: Counter[CallerId] = Counter()
        self._turns = TenantShare(_READS_OF_TENANT, in_all=_READS_AT_ONCE)
        self._polls_fail = False
        self._have_ended = False

    async def views(
        self, context: Context, challenge_id: UUID, *, may_answer: bool
    ) -> AsyncGenerator[View]:
        """Yield a pending challenge now and each minute, and its first other state; then end.

        Close the generator to end the wait.

        Args:
            context: the call.
            challenge_id: the challenge.
            may_answer: as for `find_readable`.

        Raises:
            ChallengeStateError: the challenge is unknown, or the caller may not read it.
            WaitingLimitError: too many calls of the caller wait.
            DrainingError: the server stops.
            StoreUnavailableError: the challenge cannot be read.
        """
        if self._have_ended:
            raise DrainingError(_STOPS)
        with self._place(context.caller):
            view = await self._read(context, challenge_id, may_answer=may_answer)
            with self._woken(view.challenge) as wait:
                is_pending = view.state is ChallengeState.PENDING
                yield view
                while is_pending:
                    del view  # see `_Wait`
                    notice = await self._next_notice(wait)
                    # The first view needs no turn: before it, the call has a place among the calls
                    # in flight, and must not wait for a turn with this place.
                    async with self._turns.turn(context.actor.tenant_id):
                        view = await self._read(context, challenge_id, may_answer=may_answer)
                    is_pending = view.state is ChallengeState.PENDING
                    if is_pending and notice is _Notice.CHANGED:
                        continue
                    if not is_pending:
                        self._observe_notice(view.challenge)
                    wait.repeat_at = self._clock.monotonic() + REPEAT_SECONDS
                    yield view

    def notify(self, tenant_id: TenantId, user_id: UserId) -> None:
        """Wake the waits for a user's challenges, after a commit that may have changed some."""
        for wait in self._of_user.get((tenant_id, user_id), ()):
            wait.wake(_Notice.CHANGED)

    def end_all(self) -> None:
        """End all waits with `DrainingError`, also the waits of later calls."""
        self._have_ended = True
        for wait in self._all():
            wait.woken.set()

    async def poll(self) -> None:
        """Wake the waits that have to send a state. The worker calls this once a second.

        While the database does not answer, a wait lasts until it has to repeat its state.
        """
        waits = self._all()
        if not waits:
            return
        changed = await self._changed(waits)
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for wait in waits:
            if changed is not None and (wait.key in changed or now >= wait.expires_at):
                wait.wake(_Notice.CHANGED)
            elif monotonic >= wait.repeat_at:
                wait.wake(_Notice.UNREADABLE if changed is None else _Notice.PENDING)

    async def _changed(self, waits: list[_Wait]) -> set[tuple[TenantId, UUID]] | None:
        """The challenges that are no longer pending; None if the database does not answer."""
        try:
            # A reserved connection: a flood of reads by calls must not delay the notice (S18).
            async with self._database.reserved_snapshot() as records:
                changed = await records.challenges.no_longer_pending({each.key for each in waits})
        except StoreUnavailableError as error:
            if not self._polls_fail:
                _log.warning("challenges_not_polled", problem=error.fault, waits=len(waits))
            self._polls_fail = True
            return None
        self._polls_fail = False
        return set(changed)

    async def _next_notice(self, wait: _Wait) -> _Notice | None:
        if not self._have_ended:  # `end_all` has not seen a wait that was about to begin
            await wait.woken.wait()
        wait.woken.clear()
        notice, wait.notice = wait.notice, None
        if self._have_ended:
            raise DrainingError(_STOPS)
        if notice is _Notice.UNREADABLE:
            raise StoreUnavailableError("the challenge cannot be read")
        return notice

    async def _read(self, context: Context, challenge_id: UUID, *, may_answer: bool) -> View:
        challenge = await find_readable(
            self._database, context, challenge_id, may_answer=may_answer
        )
        return view_of(challenge, context, self._clock.now())

    def _observe_notice(self, challenge: Challenge) -> None:
        ended = challenge.answered_at or challenge.ended_at or challenge.expires_at
        # The clock of another worker may be ahead.
        _notice_seconds.observe(max(0.0, (self._clock.now() - ended).total_seconds()))

    @contextmanager
    def _place(self, caller: CallerId) -> Iterator[None]:
        """Take one of the caller's places while the block runs."""
        if self._of_caller[caller] >= MAX_OF_CALLER:
            _refused.labels(caller).inc()
            raise WaitingLimitError(f"{MAX_OF_CALLER} calls of the caller wait in this worker")
        self._of_caller[caller] += 1
        _waits.inc()
        try:
            yield
        finally:
            _waits.dec()
            self._of_caller[caller] -= 1

    @contextmanager
    def _woken(self, challenge: Challenge) -> Iterator[_Wait]:
        """Register a wait while the block runs, so that changes of the challenge wake it."""
        user = challenge.tenant_id, challenge.user_id
        wait = _Wait(
            (challenge.tenant_id, challenge.challenge_id),
            challenge.expires_at,
            self._clock.monotonic() + REPEAT_SECONDS,
        )
        del challenge
        self._of_user.setdefault(user, set()).add(wait)
        try:
            yield wait
        finally:
            self._of_user[user].discard(wait)
            if not self._of_user[user]:
                del self._of_user[user]

    def _all(self) -> list[_Wait]:
        return [wait for waits in self._of_user.values() for wait in waits]


_STOPS: Final = "the server stops: wait at another server"
