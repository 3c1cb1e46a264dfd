"""The policies and recent revocations that a worker keeps in memory: a check reads no SQL.

A worker polls the change feed every second. It reads the changes that became visible since its last
poll: those of later transactions, and of transactions that were in flight then (S27). After five
seconds without a poll it decides nothing (S17). When another server answers, the worker forgets all
that it read before (S28).
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter, Gauge

from stepup.domain.actor import TenantId
from stepup.domain.changes import REMEMBER_SECONDS, Change, PolicyChanged, Revocation, Revocations
from stepup.domain.elevation import CLOCK_TOLERANCE, Elevation
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.policy import Policy
from stepup.service.ports import Announced, Clock, Database, FeedPosition, Records

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
POLL_SECONDS: Final = 1.0
MAX_AGE_SECONDS: Final = 5.0
PORTION: Final = 1000
"""How many changes are read at once: few enough that calls in between wait for milliseconds."""
MAX_POLICIES: Final = 100_000
"""How many policies are kept, of 0.6 kB each, as most tenants select the same operations. Further
policies replace those that were read first."""
SETTLED: Final = timedelta(seconds=MAX_AGE_SECONDS) + CLOCK_TOLERANCE
"""How long after a worker first sees a new server another worker may still elevate a session by a
code that the previous server accepted, by the first worker's clock."""

_polled = Gauge(
    "stepup_change_feed_read_seconds",
    "When the change feed was last read, in seconds since 1970; 5 s later nothing is decided.",
    multiprocess_mode="livemin",
)
_server_changes = Counter(
    "stepup_database_server_changes_total",
    "How often another database server answered than before: a fail-over, a restore or a restart.",
)


class Snapshots:
    """One worker's memory of policies and revocations; it refuses once it is five seconds old.

    Args:
        folds_ids: whether this server folds ids (`identity.fold_case`). If the database's ids are
            not folded alike, the server would find no policy and allow everything: so it reads
            nothing then.
        on_revocation: is called with each revocation that the worker applies.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        folds_ids: bool = False,
        on_revocation: Callable[[Revocation], None] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._folds_ids = folds_ids
        self._on_revocation = on_revocation
        self._fresh_until = float("-inf")
        self._server: str | None = None
        # Elevations that were verified earlier may come from a server that is gone.
        self._trusted_since = datetime.max.replace(tzinfo=clock.now().tzinfo)
        self._trusts_all_at = float("inf")
        self._confirmed: set[str] = set()
        # None until the changes that `_server` has announced are read to their end.
        self._position: FeedPosition | None = None
        self._policies: dict[TenantId, Policy] = {}
        self._policy_changes = 0
        self._revocations = Revocations()

    async def policy(self, tenant_id: TenantId) -> Policy:
        """Return the tenant's policy, at most a poll older than the stored one.

        The first call for a tenant reads SQL.

        Raises:
            StoreUnavailableError: the last poll is too long ago, or that read fails.
        """
        self._demand_fresh()
        policy = self._policies.get(tenant_id)
        if policy is None:
            changes = self._policy_changes
            stored = await self._read(tenant_id, lambda records: records.policies.find(tenant_id))
            policy = stored or Policy(tenant_id)
            # The read may have missed a change that arrived meanwhile.
            if changes == self._policy_changes:
                self._keep(policy)
        return policy

    async def knows_enrollment_of(self, elevation: Elevation) -> bool:
        """Whether the current database server has the enrollment of an elevation (S28).

        A fail-over may have lost the enrollment, if the elevation was verified before this worker
        first saw the server. The first check of such an enrollment reads SQL.

        Raises:
            StoreUnavailableError: the database cannot be read.
        """
        if elevation.verified_at >= self._trusted_since:
            return True
        enrollment_id = elevation.enrollment_id
        if enrollment_id not in self._confirmed:
            active = await self._read(
                elevation.tenant_id,
                lambda records: records.authenticators.find(elevation.tenant_id, elevation.user_id),
            )
            if active is None or active.enrollment_id != enrollment_id:
                return False
            self._confirmed.add(enrollment_id)
        return True

    def revocations(self) -> Revocations:
        """Return the recent revocations.

        Raises:
            StoreUnavailableError: the last poll is too long ago.
        """
        self._demand_fresh()
        return self._revocations

    @property
    def is_fresh(self) -> bool:
        """Whether the last poll is recent enough for decisions."""
        return self._clock.monotonic() <= self._fresh_until

    async def poll(self) -> None:
        """Read and apply the new changes of the feed.

        Raises:
            StoreUnavailableError: the feed cannot be read; the memory stays as it is, and ages.
        """
        # The age counts from before the read, which may miss changes that commit during it.
        began = self._clock.monotonic()
        async with self._database.reserved_snapshot() as records:
            position = self._demand_same_ids(await records.changes.position())
            known = self._position
            if (
                known is None
                or not position.continues(known)
                or not await records.changes.contains(known)
            ):
                self._begin_anew(position.server)
                await self._apply_recent(records)
                # The first read may have taken long: changes that came meanwhile are read at once.
                known, began = position, self._clock.monotonic()
                position = await records.changes.position()
            await self._apply_between(records, known, position)
        self._position = position
        self._fresh_until = began + MAX_AGE_SECONDS
        _polled.set(self._clock.now().timestamp())
        self._revocations.forget(began)
        if began > self._trusts_all_at:
            self._confirmed.clear()

    def apply(self, change: Change) -> None:
        """Apply a change. A worker applies its own changes at once."""
        if isinstance(change, PolicyChanged):
            # Even with a known version: after a fail-over, a lost version is used again (S28).
            self._policies.pop(change.tenant_id, None)
            self._policy_changes += 1
        else:
            self._revocations.add(change, self._clock.monotonic())
            if self._on_revocation is not None:
                self._on_revocation(change)

    def _begin_anew(self, server: str) -> None:
        """Forget all policies and enrollments of another server.

        Revocations stay: they can only refuse, and remain true after a fail-over.
        """
        if self._server is not None:
            _server_changes.inc()
            _log.warning(
                "database_server_changed",
                explanation="a fail-over, a restore or a restart: policies are read again",
            )
        self._server, self._position = server, None
        self._policies.clear()
        self._policy_changes += 1
        self._confirmed.clear()
        self._trusted_since = self._clock.now() + SETTLED
        self._trusts_all_at = self._clock.monotonic() + SETTLED.total_seconds() + REMEMBER_SECONDS

    async def _apply_recent(self, records: Records) -> None:
        # If this clock is ahead, its window would leave out recent changes of other workers.
        newest = await records.changes.newest()
        if newest is None:
            return
        since = min(newest, self._clock.now()) - timedelta(seconds=REMEMBER_SECONDS)
        await self._apply_portions(lambda after: records.changes.recent(since, after, PORTION))

    async def _apply_between(
        self, records: Records, start: FeedPosition, end: FeedPosition
    ) -> None:
        for change in await records.changes.late_commits(start):
            self.apply(change)
        if start.next < end.next:
            await self._apply_portions(
                lambda after: records.changes.between(start, end, after, PORTION)
            )

    async def _apply_portions(
        self, read: Callable[[Announced | None], Awaitable[Sequence[Announced]]]
    ) -> None:
        portion = await read(None)
        while portion:
            for announced in portion:
                self.apply(announced.change)
            if len(portion) < PORTION:
                return
            portion = await read(portion[-1])

    async def _read(self, tenant_id: TenantId, query: Callable[[Records], Awaitable[_T]]) -> _T:
        """Read from the server whose changes this worker follows; refuse any other server (S28)."""
        async with self._database.snapshot(tenant_id) as records:
            position = self._demand_same_ids(await records.changes.position())
            found = await query(records)
        if position.server != self._server:
            raise StoreUnavailableError("the database server has changed")
        return found

    def _demand_same_ids(self, position: FeedPosition) -> FeedPosition:
        if position.ids_are_folded != self._folds_ids:
            raise StoreUnavailableError(
                "identity.fold_case differs from the database, whose ids are"
                f" {'folded' if position.ids_are_folded else 'not folded'}"
            )
        return position

    def _keep(self, policy: Policy) -> None:
        if len(self._policies) >= MAX_POLICIES:
            for oldest in list(islice(self._policies, MAX_POLICIES // 10)):
                del self._policies[oldest]
        # Under its own id, so that the id of the call is not kept as well.
        self._policies[policy.tenant_id] = policy

    def _demand_fresh(self) -> None:
        if self._clock.monotonic() > self._fresh_until:
            raise StoreUnavailableError("the policies and revocations in memory are too old")
