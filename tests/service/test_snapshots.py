"""A worker's memory: what it reads from the change feed, and how long that serves."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from support.clock import ManualClock
from support.people import ACME

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import EnrollmentEnded, PolicyChanged, SessionRevoked, UserRevoked
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.policy import Policy
from stepup.service.snapshots import MAX_POLICIES, Snapshots

ALICE = UserId("alice")
SESSION = SessionHash("0" * 32)
GLOBEX = TenantId("globex")


@dataclass
class Feed:
    """A database in memory that has only policies and a change feed.

    Unlike in SQLite, rows become visible in any order here, as they do in PostgreSQL.
    """

    rows: dict = field(default_factory=dict)
    policies: dict = field(default_factory=dict)
    works: bool = True
    reads: int = 0
    read_after: int = 0
    on_find: object = None

    @asynccontextmanager
    async def snapshot(self):
        self.reads += 1
        if not self.works:
            raise StoreUnavailableError("told to fail")
        yield _Records(_Policies(self), _Changes(self))


@dataclass
class _Records:
    policies: object
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
class _Changes:
    feed: Feed

    async def read(self, after=0):
        self.feed.read_after = after
        return sorted((number, row) for number, row in self.feed.rows.items() if number > after)


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


# --- Revocations ---


async def test_s10_a_change_holds_after_one_poll(snapshots, feed, elevation, voiding):
    assert not snapshots.revocations().void(elevation)
    feed.rows[1] = voiding
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_s10_a_number_that_another_change_had_before_is_seen(
    snapshots, feed, elevation, voiding
):
    """The database failed over to a standby that lacked the last change."""
    feed.rows[1] = UserRevoked(GLOBEX, ALICE, elevation.verified_at)
    await snapshots.poll()
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


async def test_s10_a_lower_number_is_seen_two_minutes_later(
    snapshots, feed, clock, elevation, voiding
):
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
    for _ in range(180):
        await snapshots.poll()
        clock.advance(seconds=1)
    feed.rows[2] = PolicyChanged(GLOBEX, 1)
    await snapshots.poll()
    feed.rows[1] = voiding
    clock.advance(minutes=10)
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_what_was_read_long_ago_is_not_read_again(snapshots, feed, clock):
    feed.rows[7] = PolicyChanged(GLOBEX, 1)
    for _ in range(123):
        await snapshots.poll()
        clock.advance(seconds=1)
    assert feed.read_after == 7


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("order", [1, -1], ids=["in order", "out of order"])
@pytest.mark.parametrize("kind", ["user", "session"])
async def test_of_two_revocations_the_later_instant_counts(snapshots, elevation, order, kind):
    earlier, later = (elevation.verified_at + timedelta(seconds=s) for s in (-60, 60))
    for through in (earlier, later)[::order]:
        snapshots.apply(
            UserRevoked(ACME, ALICE, through)
            if kind == "user"
            else SessionRevoked(ACME, ALICE, SESSION, through)
        )
    assert snapshots.revocations().void(elevation)


async def test_reading_a_change_again_voids_nothing_new(snapshots, feed, clock, voiding, elevation):
    feed.rows[1] = voiding
    await snapshots.poll()
    clock.advance(seconds=1)
    await snapshots.poll()
    later = replace(
        elevation,
        enrollment_id="another",
        verified_at=clock.now(),
        expires_at=clock.now() + LIFETIME,
    )
    assert not snapshots.revocations().void(later)


async def test_s10_a_change_is_remembered_for_as_long_as_elevations_live(
    snapshots, feed, clock, elevation, voiding
):
    feed.rows[1] = voiding
    await snapshots.poll()
    feed.rows.clear()
    clock.advance(seconds=LIFETIME.total_seconds())
    await snapshots.poll()
    assert snapshots.revocations().void(elevation)


async def test_memory_does_not_grow_a_change_is_forgotten_when_nothing_is_left_to_void(
    snapshots, feed, clock, elevation, voiding
):
    feed.rows[1] = voiding
    await snapshots.poll()
    feed.rows.clear()
    clock.advance(seconds=LIFETIME.total_seconds() + 11)
    await snapshots.poll()
    assert not snapshots.revocations().void(elevation)


@pytest.mark.parametrize("kind", ["user", "session"])
async def test_s10_forgetting_a_revocation_keeps_a_later_one(snapshots, clock, elevation, kind):
    def revoked():
        if kind == "user":
            return UserRevoked(ACME, ALICE, clock.now())
        return SessionRevoked(ACME, ALICE, SESSION, clock.now())

    snapshots.apply(revoked())
    clock.advance(minutes=10)
    snapshots.apply(revoked())
    by_a_code_just_before = replace(elevation, verified_at=clock.now())
    clock.advance(minutes=10)
    await snapshots.poll()
    assert snapshots.revocations().void(by_a_code_just_before)


async def test_forgetting_the_same_change_twice_does_no_harm(snapshots, feed, clock, voiding):
    snapshots.apply(voiding)
    feed.rows[1] = voiding
    await snapshots.poll()
    feed.rows.clear()
    clock.advance(minutes=20)
    await snapshots.poll()
    assert snapshots.is_fresh


# --- Policies ---


async def test_a_policy_is_read_once(snapshots, feed):
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    reads = feed.reads
    first, second = await snapshots.policy(ACME), await snapshots.policy(ACME)
    assert first is second
    assert feed.reads - reads == 1


async def test_a_tenant_without_a_policy_is_read_once_too(snapshots, feed):
    reads = feed.reads
    assert await snapshots.policy(ACME) == Policy(ACME)
    await snapshots.policy(ACME)
    assert feed.reads - reads == 1


async def test_a_policy_that_has_changed_is_read_again(snapshots, feed):
    await snapshots.policy(ACME)
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    feed.rows[1] = PolicyChanged(ACME, 1)
    await snapshots.poll()
    assert (await snapshots.policy(ACME)).enabled


async def test_a_policy_that_is_known_in_its_last_version_is_not_read_again(snapshots, feed):
    feed.policies[ACME] = Policy(ACME, enabled=True, version=1)
    feed.rows[1] = PolicyChanged(ACME, 1)
    await snapshots.policy(ACME)
    reads = feed.reads
    await snapshots.poll()
    await snapshots.policy(ACME)
    assert feed.reads - reads == 1


async def test_a_change_of_another_tenants_policy_is_no_reason_to_read(snapshots, feed):
    await snapshots.policy(ACME)
    feed.rows[1] = PolicyChanged(GLOBEX, 1)
    await snapshots.poll()
    reads = feed.reads
    await snapshots.policy(ACME)
    assert feed.reads == reads


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


async def test_memory_does_not_grow_with_the_number_of_tenants(snapshots, feed):
    tenants = [TenantId(f"tenant-{number}") for number in range(MAX_POLICIES + 1)]
    for tenant in tenants:
        await snapshots.policy(tenant)
    reads = feed.reads
    await snapshots.policy(tenants[-1])
    assert feed.reads == reads
    await snapshots.policy(tenants[0])
    assert feed.reads == reads + 1


# --- Age ---


async def test_s17_before_the_first_poll_nothing_is_known(feed, clock):
    started = Snapshots(feed, clock)
    assert not started.is_fresh
    with pytest.raises(StoreUnavailableError):
        await started.policy(ACME)
    with pytest.raises(StoreUnavailableError):
        started.revocations()


async def test_s17_what_is_known_serves_for_five_seconds(snapshots, clock):
    await snapshots.policy(ACME)
    clock.advance(seconds=5)
    assert snapshots.is_fresh
    await snapshots.policy(ACME)
    snapshots.revocations()


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


async def test_s17_after_the_next_poll_everything_goes_on(snapshots, clock):
    clock.advance(minutes=60)
    await snapshots.poll()
    assert snapshots.is_fresh
