"""A worker's memory: what it reads from the change feed, and how long that serves."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepup_tests.clock import ManualClock
from stepup_tests.people import ACME

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    REMEMBER_SECONDS,
    EnrollmentEnded,
    PolicyChanged,
    SessionRevoked,
    UserRevoked,
)
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.policy import Policy
from stepup.service.policy import snapshots as module
from stepup.service.policy.snapshots import PORTION, SETTLED, Snapshots
from stepup.service.ports import Announced, FeedPosition

ALICE = UserId("alice")
SESSION = SessionHash("0" * 32)
GLOBEX = TenantId("globex")


@dataclass
class Feed:
    """A database in memory that has only policies, authenticators and a change feed.

    Unlike in SQLite, rows become visible in any order here, as they do in PostgreSQL: a number
    below the highest that has no row is of a transaction in flight.
    """

    rows: dict = field(default_factory=dict)
    policies: dict = field(default_factory=dict)
    enrollments: dict = field(default_factory=dict)
    announced_at: object = ManualClock().now()
    server: str = "primary"
    works: bool = True
    reads: int = 0
    last: int = 0
    portions: list = field(default_factory=list)
    on_find: object = None
    on_recent: object = None

    @asynccontextmanager
    async def snapshot(self, _tenant_id=None):
        self.reads += 1
        if not self.works:
            raise StoreUnavailableError("told to fail")
        yield _Records(_Policies(self), _Authenticators(self), _Changes(self))

    def reserved_snapshot(self):
        return self.snapshot()


@dataclass
class _Records:
    policies: object
    authenticators: object
    changes: object


@dataclass
class _Policies:
    feed: Feed

    async def find(self, tenant_id):
        found = self.feed.policies.get(tenant_id)
        if self.feed.on_find is not None:
            await self.feed.on_find()
        return found


@dataclass
class _Authenticators:
    feed: Feed

    async def find(self, tenant_id, user_id):
        return self.feed.enrollments.get((tenant_id, user_id))


@dataclass
class _Changes:
    feed: Feed

    async def position(self):
        feed = self.feed
        feed.last = max([feed.last, *feed.rows])
        missing = set(range(1, feed.last + 1)).difference(feed.rows)
        return FeedPosition(feed.server, feed.last + 1, tuple(missing))

    async def contains(self, _position):
        return True

    async def newest(self):
        return self.feed.announced_at if self.feed.rows else None

    async def recent(self, since, after, limit):
        if self.feed.on_recent is not None:
            await self.feed.on_recent()
        if self.feed.announced_at < since:
            return []
        return self._portion(0, self.feed.last + 1, after, limit)

    async def late_commits(self, position):
        return [self.feed.rows[number] for number in position.in_flight if number in self.feed.rows]

    async def between(self, start, end, after, limit):
        assert start.server == end.server == self.feed.server
        return self._portion(start.next, end.next, after, limit)

    def _portion(self, start, end, after, limit):
        first = max(start, after.number + 1 if after else 0)
        numbers = sorted(number for number in self.feed.rows if first <= number < end)[:limit]
        self.feed.portions.append(len(numbers))
        return [
            Announced(self.feed.announced_at, number, number, self.feed.rows[number])
            for number in numbers
        ]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def feed():
    return Feed()


@pytest.fixture
async def snapshots(feed, clock):
    snapshots = Snapshots(feed, clock)
    await snapshots.poll()
    return snapshots


@pytest.fixture
def elevation(clock):
    now = clock.now()
    return Elevation(ACME, ALICE, SESSION, "enrollment", now, now + LIFETIME)


def changes_that_void(elevation):
    return [
        UserRevoked(ACME, ALICE, elevation.verified_at),
        SessionRevoked(ACME, ALICE, SESSION, elevation.verified_at),
        EnrollmentEnded(ACME, ALICE, "enrollment"),
    ]


@pytest.fixture(params=[0, 1, 2], ids=["user revoked", "session revoked", "enrollment ended"])
def voiding(request, elevation):
    return changes_that_void(elevation)[request.param]


async def test_s10_a_change_holds_after_one_poll(snapshots, feed, elevation, voiding):
    assert not snapshots.revocations().void(elevation)
    feed.rows[1] = voiding
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s10_a_workers_own_change_holds_at_once(snapshots, elevation, voiding):
    snapshots.apply(voiding)
    assert snapshots.revocations().void(elevation)


async def test_s10_a_worker_that_starts_knows_earlier_changes(feed, clock, elevation, voiding):
    feed.rows[1] = voiding
    started = Snapshots(feed, clock)
    await started.poll()
    assert started.revocations().void(elevation)


async def test_s10_a_lower_number_that_becomes_visible_later_is_seen(
    snapshots, feed, elevation, voiding
):
    feed.rows[2] = PolicyChanged(GLOBEX, 1)
    await snapshots.poll()
    feed.rows[1] = voiding
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s10_a_lower_number_is_seen_however_late(snapshots, feed, clock, elevation, voiding):
    feed.rows[2] = PolicyChanged(GLOBEX, 1)
    for _ in range(119):
        await snapshots.poll()
        clock.advance(seconds=1)
    feed.rows[1] = voiding
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s10_a_worker_that_was_suspended_looks_back_as_far_as_ever(
    snapshots, feed, clock, elevation, voiding
):
    """A transaction that was open at its last poll may have committed while it slept."""
    feed.rows[2] = PolicyChanged(GLOBEX, 1)
    await snapshots.poll()
    feed.rows[1] = voiding
    clock.advance(minutes=10)
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s27_what_was_read_once_is_not_read_again(snapshots, feed, clock):
    feed.rows |= {number: UserRevoked(GLOBEX, ALICE, clock.now()) for number in range(1, 101)}
    await snapshots.poll()
    assert sum(feed.portions) == 100
    clock.advance(seconds=1)
    await snapshots.poll()
    assert sum(feed.portions) == 100


@pytest.mark.parametrize("is_new", [True, False], ids=["at start", "later"])
async def test_s27_many_changes_are_read_in_portions(snapshots, feed, clock, elevation, is_new):
    voiding = EnrollmentEnded(ACME, ALICE, "enrollment")
    count = 3 * PORTION + 1
    feed.rows |= {number: UserRevoked(GLOBEX, ALICE, clock.now()) for number in range(1, count)}
    feed.rows[count] = voiding
    feed.last = count
    reader = Snapshots(feed, clock) if is_new else snapshots
    await reader.poll()
    assert feed.portions[:4] == [PORTION, PORTION, PORTION, 1]
    assert reader.revocations().void(elevation)


async def test_s27_at_start_only_what_an_elevation_can_outlive_is_read(feed, clock, voiding):
    feed.rows = {1: voiding, 2: voiding}
    feed.announced_at = clock.now() - timedelta(seconds=REMEMBER_SECONDS + 1)
    feed.last = 2
    await Snapshots(feed, clock).poll()
    assert sum(feed.portions) == 2  # the clock may be ahead: the newest one counts from itself

    class Spread(_Changes):
        async def newest(self):
            return clock.now()

    records = _Records(None, None, Spread(feed))
    feed.portions.clear()
    await Snapshots(feed, clock)._apply_recent(records)  # noqa: SLF001
    assert sum(feed.portions) == 0


async def test_s10_a_worker_whose_clock_is_an_hour_ahead_knows_earlier_changes(
    feed, clock, elevation, voiding
):
    feed.rows[1] = voiding
    feed.last = 1
    clock.advance(minutes=60)
    started = Snapshots(feed, clock)
    await started.poll()
    assert started.revocations().void(elevation)


async def test_s27_a_long_first_read_ends_with_knowledge_that_is_fresh(feed, clock, voiding):
    async def take_long():
        clock.advance(seconds=30)

    feed.rows[1] = voiding
    feed.on_recent = take_long
    started = Snapshots(feed, clock)
    await started.poll()
    assert started.is_fresh


async def test_s10_what_is_announced_during_a_long_first_read_is_known_after_it(
    feed, clock, elevation, voiding
):
    async def announce():
        feed.on_recent = None
        feed.rows[2] = voiding

    feed.rows[1] = UserRevoked(GLOBEX, ALICE, clock.now())
    feed.on_recent = announce
    started = Snapshots(feed, clock)
    await started.poll()
    assert started.revocations().void(elevation)


async def test_s27_before_a_first_read_is_complete_nothing_is_decided(feed, clock, voiding):
    started = Snapshots(feed, clock)

    async def look():
        assert not started.is_fresh

    feed.rows[1] = voiding
    feed.on_recent = look
    await started.poll()
    assert started.is_fresh


async def test_s27_a_first_read_that_fails_is_begun_again(feed, clock, elevation, voiding):
    async def fail():
        feed.on_recent = None
        raise StoreUnavailableError("told to fail")

    feed.rows[1] = voiding
    feed.last = 1
    feed.on_recent = fail
    started = Snapshots(feed, clock)
    with pytest.raises(StoreUnavailableError):
        await started.poll()
    assert not started.is_fresh
    await started.poll()
    assert started.revocations().void(elevation)


@given(st.data())
async def test_s10_s27_whatever_the_order_of_commits_each_poll_knows_all(data):
    """Transactions take numbers, and commit or give up later, in any order."""
    clock, feed, open_ones, committed = ManualClock(), Feed(), [], set()
    snapshots = Snapshots(feed, clock)
    now = clock.now()
    for step in data.draw(st.lists(st.sampled_from(["begin", "commit", "give up", "poll"]))):
        if step == "begin":
            feed.last += 1
            open_ones.append(feed.last)
        elif step == "poll":
            await snapshots.poll()
            for number in range(1, feed.last + 1):
                elevation = Elevation(ACME, ALICE, SESSION, str(number), now, now + LIFETIME)
                assert snapshots.revocations().void(elevation) is (number in committed)
        elif open_ones:
            number = data.draw(st.sampled_from(open_ones))
            open_ones.remove(number)
            if step == "commit":
                committed.add(number)
                feed.rows[number] = EnrollmentEnded(ACME, ALICE, str(number))


async def test_memory_does_not_grow_a_change_is_forgotten_when_nothing_is_left_to_void(
    snapshots, feed, clock, elevation, voiding
):
    feed.rows[1] = voiding
    await snapshots.poll()
    feed.rows.clear()
    clock.advance(seconds=2 * LIFETIME.total_seconds())
    await snapshots.poll()
    assert not snapshots.revocations().void(elevation)


async def test_a_policy_is_read_once(snapshots, feed):
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    reads = feed.reads
    first, second = await snapshots.policy(ACME), await snapshots.policy(ACME)
    assert first is second
    assert feed.reads - reads == 1


async def test_a_policy_that_has_changed_is_read_again(snapshots, feed):
    await snapshots.policy(ACME)
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    feed.rows[1] = PolicyChanged(ACME, 1)
    await snapshots.poll()
    assert (await snapshots.policy(ACME)).enabled


async def test_a_policy_that_changed_while_it_was_first_read_is_right_after_one_poll(
    snapshots, feed
):
    """The poll that sees the change may finish before the read that does not."""

    async def change_it():
        feed.on_find = None
        feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
        feed.rows[1] = PolicyChanged(ACME, 1)
        await snapshots.poll()

    feed.on_find = change_it
    assert not (await snapshots.policy(ACME)).enabled
    await snapshots.poll()
    assert (await snapshots.policy(ACME)).enabled


async def test_memory_does_not_grow_with_the_number_of_tenants(snapshots, feed, monkeypatch):
    monkeypatch.setattr(module, "MAX_POLICIES", 20)
    tenants = [TenantId(f"tenant-{number}") for number in range(21)]
    for tenant in tenants:
        await snapshots.policy(tenant)
    reads = feed.reads
    await snapshots.policy(tenants[-1])
    assert feed.reads == reads
    await snapshots.policy(tenants[0])
    assert feed.reads == reads + 1


async def test_s28_a_policy_whose_version_was_given_twice_is_read_again(snapshots, feed):
    """A fail-over lost version 2, which disabled the policy; then the policy was saved again."""
    feed.policies[ACME] = Policy(ACME, enabled=False, version=2)
    assert not (await snapshots.policy(ACME)).enabled
    feed.policies[ACME] = Policy(ACME, enabled=True, version=2)
    feed.rows[1] = PolicyChanged(ACME, 2)
    await snapshots.poll()
    assert (await snapshots.policy(ACME)).enabled


async def test_s28_when_another_server_answers_no_policy_from_before_is_believed(snapshots, feed):
    feed.policies[ACME] = Policy(ACME, enabled=False, version=2)
    await snapshots.policy(ACME)
    feed.server = "promoted standby"
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    await snapshots.poll()
    assert (await snapshots.policy(ACME)).enabled


@pytest.mark.parametrize("lost", [0, 5], ids=["the same numbers", "lower numbers"])
async def test_s28_when_another_server_answers_its_feed_is_read_anew(
    snapshots, feed, elevation, voiding, lost
):
    feed.last = 7
    await snapshots.poll()
    feed.server, feed.last = "promoted standby", 7 - lost
    feed.rows[1] = voiding
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s28_numbers_that_went_back_are_another_history(snapshots, feed, elevation, voiding):
    """A file of SQLite was replaced by an older one, and the file system used its number again."""
    feed.last = 7
    await snapshots.poll()
    feed.rows[1], feed.last = voiding, 1
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s28_a_revocation_that_the_new_server_lacks_still_holds(
    snapshots, feed, elevation, voiding
):
    feed.rows[1] = voiding
    await snapshots.poll()
    feed.rows.clear()
    feed.server = "promoted standby"
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s28_a_policy_of_another_server_than_the_known_one_is_not_believed(snapshots, feed):
    """A connection of the pool may still lead to the primary of before."""
    feed.server = "primary of before"
    with pytest.raises(StoreUnavailableError):
        await snapshots.policy(ACME)
    feed.server = "primary"
    await snapshots.policy(ACME)


async def test_s28_a_policy_that_was_read_while_the_server_changed_is_not_believed(snapshots, feed):
    async def fail_over():
        feed.on_find = None
        feed.server = "promoted standby"
        await snapshots.poll()

    feed.on_find = fail_over
    with pytest.raises(StoreUnavailableError):
        await snapshots.policy(ACME)


@dataclass
class _Active:
    enrollment_id: str


async def test_s28_an_elevation_of_an_enrollment_that_was_lost_is_not_vouched_for(
    snapshots, elevation
):
    assert not await snapshots.knows_enrollment_of(elevation)


async def test_s28_an_elevation_of_an_enrollment_that_was_replaced_is_not_vouched_for(
    snapshots, feed, elevation
):
    feed.enrollments[ACME, ALICE] = _Active("another")
    assert not await snapshots.knows_enrollment_of(elevation)


async def test_s28_an_enrollment_is_looked_up_once(snapshots, feed, elevation):
    feed.enrollments[ACME, ALICE] = _Active("enrollment")
    assert await snapshots.knows_enrollment_of(elevation)
    reads = feed.reads
    assert await snapshots.knows_enrollment_of(elevation)
    assert feed.reads == reads


async def test_s28_an_enrollment_is_looked_up_anew_when_the_server_has_changed(
    snapshots, feed, elevation
):
    feed.enrollments[ACME, ALICE] = _Active("enrollment")
    assert await snapshots.knows_enrollment_of(elevation)
    feed.enrollments.clear()
    feed.server = "promoted standby"
    await snapshots.poll()
    assert not await snapshots.knows_enrollment_of(elevation)


async def test_s28_an_elevation_of_after_the_fail_over_needs_no_look_up(
    snapshots, feed, clock, elevation
):
    clock.advance(seconds=SETTLED.total_seconds())
    reads = feed.reads
    assert await snapshots.knows_enrollment_of(replace(elevation, verified_at=clock.now()))
    assert feed.reads == reads


async def test_memory_does_not_grow_with_the_enrollments_that_were_looked_up(
    snapshots, feed, clock, elevation
):
    feed.enrollments[ACME, ALICE] = _Active("enrollment")
    assert await snapshots.knows_enrollment_of(elevation)
    clock.advance(seconds=2 * REMEMBER_SECONDS)
    await snapshots.poll()
    reads = feed.reads
    assert await snapshots.knows_enrollment_of(elevation)
    assert feed.reads == reads + 1


async def test_s17_before_the_first_poll_nothing_is_known(feed, clock):
    started = Snapshots(feed, clock)
    assert not started.is_fresh
    with pytest.raises(StoreUnavailableError):
        await started.policy(ACME)
    with pytest.raises(StoreUnavailableError):
        started.revocations()


async def test_s17_after_five_seconds_it_is_too_old(snapshots, clock):
    await snapshots.policy(ACME)
    clock.advance(seconds=5.001)
    assert not snapshots.is_fresh
    with pytest.raises(StoreUnavailableError):
        await snapshots.policy(ACME)
    with pytest.raises(StoreUnavailableError):
        snapshots.revocations()


async def test_s17_a_poll_that_fails_makes_nothing_younger(snapshots, feed, clock):
    clock.advance(seconds=4)
    feed.works = False
    with pytest.raises(StoreUnavailableError):
        await snapshots.poll()
    clock.advance(seconds=1.001)
    assert not snapshots.is_fresh


@pytest.mark.usefixtures("feed")
async def test_s17_the_age_counts_from_before_the_read(clock):
    class Slow(Feed):
        @asynccontextmanager
        async def snapshot(self):
            async with super().snapshot() as records:
                yield records
            clock.advance(seconds=3)

    snapshots = Snapshots(Slow(), clock)
    await snapshots.poll()
    clock.advance(seconds=2.001)
    assert not snapshots.is_fresh


async def test_s28_a_read_from_another_server_is_refused(snapshots, feed):
    feed.server = "promoted standby"
    with pytest.raises(StoreUnavailableError, match="has changed"):
        await snapshots.policy(ACME)


async def test_ids_that_the_database_has_not_folded_are_not_looked_up(feed, clock):
    with pytest.raises(StoreUnavailableError, match=r"identity\.fold_case differs .* not folded"):
        await Snapshots(feed, clock, folds_ids=True).poll()
