"""Records, outside of calls, the people who were asked for a code without an authenticator."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime
from itertools import islice
from typing import Final

import structlog
from prometheus_client import Counter

from stepup.domain.actor import TenantId, UserId
from stepup.domain.changes import Revocation, SessionRevoked, UserRevoked
from stepup.domain.decision import Reason, Verdict
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.person import MAX_ASKED
from stepup.service.calls.context import Context
from stepup.service.ports import Clock, Database

FLUSH_SECONDS: Final = 5.0
PORTION: Final = 100
"""How many people one transaction records; on SQLite, other writes wait for its end."""
MAX_WAITING: Final = 10_000
"""How many people of all tenants may wait to be recorded."""
MAX_REMEMBERED: Final = 100_000
"""How many people a worker remembers as recorded today. At this number the worker forgets all of
them, and records them again when they are asked."""
FULL_SECONDS: Final = 3600.0
"""How long a worker records no person of a tenant that has `MAX_ASKED` people."""
LAST_FLUSH_SECONDS: Final = 2.0

_WITHOUT_AUTHENTICATOR: Final = {Reason.NOT_ENROLLED, Reason.ENROLLMENT_GRACE}
_log = structlog.get_logger(__name__)
_not_recorded = Counter(
    "stepup_asked_people_not_recorded",
    "Times that a person without an authenticator was asked for a code and was not recorded.",
    ["cause"],
)


class AskedRecorder:
    """Notes people without an authenticator in memory, and writes them to SQL at intervals.

    Each worker records a person once a day, so that a decision costs no write. Nothing here fails
    or delays a decision.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiting: dict[TenantId, dict[UserId, datetime]] = {}
        self._day: date | None = None
        self._of_today: set[int] = set()
        self._full_until: dict[TenantId, float] = {}

    def note(self, context: Context, verdicts: Iterable[Verdict]) -> None:
        """Note the actor of a call, if a verdict says that the actor has no authenticator."""
        if not any(verdict.reason in _WITHOUT_AUTHENTICATOR for verdict in verdicts):
            return
        tenant_id, user_id = context.actor.tenant_id, context.actor.user_id
        key = _key(tenant_id, user_id)
        self._forget_earlier_days(context.now.date())
        if key in self._of_today:
            return
        if self._is_full(tenant_id):
            _not_recorded.labels("tenant_full").inc()
        elif self._number_waiting >= MAX_WAITING:
            _not_recorded.labels("queue_full").inc()
        else:
            self._of_today.add(key)
            self._waiting.setdefault(tenant_id, {}).setdefault(user_id, context.now)

    def follow(self, change: Revocation) -> None:
        """Let the next check record the user again: the change may come with the end of the record.

        `ForgetUser` ends the record, and so did the enrollment of an authenticator that ends now.
        A user who waits to be recorded does not come on record, if asked before a `UserRevoked`:
        the user may have been forgotten since.
        """
        if isinstance(change, SessionRevoked):
            return
        self._of_today.discard(_key(change.tenant_id, change.user_id))
        waiting = self._waiting.get(change.tenant_id, {})
        asked_at = waiting.get(change.user_id)
        if isinstance(change, UserRevoked) and asked_at is not None and asked_at <= change.through:
            del waiting[change.user_id]

    async def flush(self) -> None:
        """Write all noted people, tenant by tenant.

        Raises:
            StoreUnavailableError: the people of one tenant could not be written, and still wait.
                The next flush begins with another tenant.
        """
        for tenant_id in list(self._waiting):
            people = self._waiting.pop(tenant_id)
            try:
                await self._write(tenant_id, people)
            finally:
                if people:
                    # The earlier instants count.
                    self._waiting[tenant_id] = self._waiting.pop(tenant_id, {}) | people

    async def flush_at_end(self) -> None:
        """Write all noted people when the server stops; give up after two seconds."""
        with suppress(TimeoutError, StoreUnavailableError):
            async with asyncio.timeout(LAST_FLUSH_SECONDS):
                await self.flush()
        if self._number_waiting:
            _not_recorded.labels("shutdown").inc(self._number_waiting)
            _log.warning("asked_people_not_recorded", people=self._number_waiting)

    async def _write(self, tenant_id: TenantId, people: dict[UserId, datetime]) -> None:
        """Write people in portions, and empty `people`; people who are not written stay in it."""
        while people:
            portion = dict(islice(people.items(), PORTION))
            async with self._database.transaction(tenant_id) as records:
                without_room = await records.asked.note(tenant_id, portion, MAX_ASKED)
            for user_id in portion:
                del people[user_id]
            if without_room:
                self._full_until[tenant_id] = self._clock.monotonic() + FULL_SECONDS
                _not_recorded.labels("tenant_full").inc(without_room + len(people))
                people.clear()

    @property
    def _number_waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _forget_earlier_days(self, day: date) -> None:
        if self._day != day or len(self._of_today) >= MAX_REMEMBERED:
            self._day = day
            self._of_today.clear()

    def _is_full(self, tenant_id: TenantId) -> bool:
        until = self._full_until.get(tenant_id)
        if until is not None and self._clock.monotonic() >= until:
            del self._full_until[tenant_id]
            return False
        return until is not None


def _key(tenant_id: TenantId, user_id: UserId) -> int:
    """A hash, which takes a tenth of the memory of the ids."""
    return hash((tenant_id, user_id))
