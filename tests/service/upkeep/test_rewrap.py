"""`Rewrap`: what older keys seal is sealed by the primary one, while serving."""

from contextlib import asynccontextmanager
from dataclasses import astuple, replace

import pytest
from stepup_tests.otp import code_at
from stepup_tests.people import ACME, person
from stepup_tests.worker import OSQUERY
from structlog.testing import capture_logs

from stepup.domain.actor import SessionHash
from stepup.domain.authenticator import Attempt
from stepup.domain.elevation import Outcome
from stepup.domain.errors import StoreUnavailableError
from stepup.keys.ring import KeyRing
from stepup.service.ports import SealCounts
from stepup.service.upkeep import rewrap
from stepup.service.upkeep.rewrap import Rewrap

ALICE = person()
BOB = person("bob")
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
ROTATED = KeyRing("new", {"old": OLD, "new": NEW})
ONLY_NEW = KeyRing("new", {"new": NEW})


@pytest.fixture
def world(world):
    world.keys = KeyRing("old", {"old": OLD})
    return world


async def everything(world, keys=ROTATED, database=None):
    """Rewrap everything; returns what was told, user by user."""
    use_case = Rewrap(database or world.database, keys, world.clock, retry_seconds=0)
    return [rewrapped async for rewrapped in use_case()]


async def counts(world):
    async with world.database.snapshot() as records:
        return await records.key_uses.counts()


async def with_new_keys_only(world):
    """A worker that has no older key."""
    world.keys = ONLY_NEW
    return await world.worker()


async def test_s6_a_rewrapped_secret_verifies_codes_without_the_older_key(world, worker, clock):
    app = await worker.enrol(ALICE)
    await everything(world)
    worker = await with_new_keys_only(world)
    assert (await worker.verify(ALICE, app.code(clock.now()))).outcome is Outcome.VERIFIED


async def test_s8_a_rewrapped_reset_code_works_without_the_older_key(world, worker):
    app = await worker.enrol(ALICE)
    await everything(world)
    worker = await with_new_keys_only(world)
    assert (await worker.reset(ALICE, app.reset_code)).outcome is Attempt.VERIFIED


async def test_s6_a_wizard_goes_on_at_its_first_screen(world, worker, clock):
    secret = (await worker.begin(ALICE)).secret.octets
    await everything(world)
    worker = await with_new_keys_only(world)
    assert (await worker.begin(ALICE)).secret.octets == secret
    assert (await worker.confirm(ALICE, code_at(secret, clock.now()))).reset_code is not None


async def test_s8_a_confirmed_wizard_keeps_its_reset_code(world, worker, clock):
    secret = (await worker.begin(ALICE)).secret.octets
    confirmation = await worker.confirm(ALICE, code_at(secret, clock.now()))
    await everything(world)
    worker = await with_new_keys_only(world)
    await worker.complete(ALICE)
    assert (await worker.reset(ALICE, confirmation.reset_code)).outcome is Attempt.VERIFIED


async def test_s6_s8_everything_is_sealed_anew_and_told(world, worker, clock):
    await worker.enrol(ALICE)
    for session in ("desk", "phone"):
        await worker.begin(person("bob", session=session))
    secret = (await worker.begin(person("cat"))).secret.octets
    await worker.confirm(person("cat"), code_at(secret, clock.now()))
    told = await everything(world)
    assert {each.user_id: each.sealed_anew for each in told} == {
        "alice": SealCounts(authenticators=1, reset_codes=1),
        "bob": SealCounts(pending_enrollments=2),
        "cat": SealCounts(pending_enrollments=1, reset_codes=1),
    }
    assert {each.tenant_id for each in told} == {ACME}
    assert (await counts(world)).keys() == {"new"}


async def test_s6_what_is_sealed_by_the_primary_key_stays_as_it_is(world, worker):
    """One who has both kinds is touched no more than needed."""
    await worker.begin(person("bob", session="phone"), (await worker.enrol(BOB)).reset_code)
    await everything(world)
    world.sql("UPDATE authenticators SET key_id = 'old' WHERE user_id = 'bob'")
    before = world.sql("SELECT * FROM reset_codes"), world.sql("SELECT * FROM pending_enrollments")
    [told] = await everything(world)
    assert (told.user_id, told.unreadable) == ("bob", 1)
    after = world.sql("SELECT * FROM reset_codes"), world.sql("SELECT * FROM pending_enrollments")
    assert after == before


async def test_s2_s4_nothing_but_the_seal_changes(world, worker, clock):
    app = await worker.enrol(ALICE)
    await worker.verify(ALICE, app.code(clock.now()))
    await worker.fail(ALICE, app, times=3)
    kept = "last_step, in_a_row, recent, locked_until, enrollment_id, activated_at"
    before = world.sql(f"SELECT {kept} FROM authenticators")  # noqa: S608
    events = await worker.events()
    await everything(world)
    assert world.sql(f"SELECT {kept} FROM authenticators") == before  # noqa: S608
    assert await worker.events() == events


async def test_a_reset_codes_throttle_stays(world, worker):
    await worker.enrol(ALICE)
    other = await worker.enrol(BOB)
    await worker.reset(ALICE, other.reset_code)
    before = world.sql("SELECT failed_sessions, digest FROM reset_codes")
    await everything(world)
    assert world.sql("SELECT failed_sessions, digest FROM reset_codes") == before


async def test_an_elevation_outlives_a_rotation(world, worker):
    await worker.select(OSQUERY)
    await worker.wizard(ALICE)
    before = await worker.check(ALICE)
    await everything(world)
    world.keys = ROTATED
    worker = await world.worker()
    assert (await worker.check(ALICE)).verdict == before.verdict


async def test_batches_follow_each_other_until_everybody_is_done(world, worker, monkeypatch):
    monkeypatch.setattr(rewrap, "BATCH", 2)
    users = [f"user-{number}" for number in range(5)]
    for user in users:
        await worker.begin(person(user))
    assert [each.user_id for each in await everything(world)] == users


async def test_a_run_that_was_broken_off_is_gone_on_with(world, worker, monkeypatch):
    monkeypatch.setattr(rewrap, "BATCH", 1)
    for user in ("a", "b", "c"):
        await worker.begin(person(user))
    running = Rewrap(world.database, ROTATED, world.clock)()
    assert (await anext(running)).user_id == "a"
    await running.aclose()
    assert [each.user_id for each in await everything(world)] == ["b", "c"]


async def test_whoever_a_server_seals_by_the_older_key_meanwhile_is_done_too(world, worker):
    """It has not heard of the primary key yet."""
    await worker.begin(person("m"))
    running = Rewrap(world.database, ROTATED, world.clock)()
    assert (await anext(running)).user_id == "m"
    await worker.begin(person("a"))  # before the place that the batches have come to
    assert [each.user_id async for each in running] == ["a"]
    assert (await counts(world)).keys() == {"new"}


async def test_a_store_that_is_busy_for_a_while_is_tried_again(world, worker):
    await worker.enrol(ALICE)
    failures = iter([1, 2, 3, 4])
    world.database = _Busy(world.database, failures)
    [told] = await everything(world)
    assert told.sealed_anew == SealCounts(authenticators=1, reset_codes=1)
    assert next(failures, None) is None


async def test_a_store_that_stays_away_ends_the_run(world, worker):
    await worker.enrol(ALICE)
    world.database.writes = False
    with pytest.raises(StoreUnavailableError):
        await everything(world)
    world.database.writes = True
    assert (await counts(world)).keys() == {"old"}


async def test_a_batch_is_done_in_full_or_not_at_all(world, worker):
    await worker.enrol(ALICE)
    await worker.begin(person("bob", session="phone"), (await worker.enrol(BOB)).reset_code)
    world.database.commits = False
    await world.refuses(everything(world))


async def test_a_wizard_that_is_gone_when_it_is_locked_is_let_be(world, worker):
    await worker.enrol(ALICE)
    [told] = await everything(world, database=_WithGhosts(world.database))
    assert told.sealed_anew == SealCounts(authenticators=1, reset_codes=1)


class _Busy:
    """Transactions that fail for as long as there are failures left."""

    def __init__(self, inner, failures):
        self._inner = inner
        self._failures = failures
        self.snapshot = inner.snapshot

    @asynccontextmanager
    async def transaction(self, tenant_id=None):
        if next(self._failures, None):
            raise StoreUnavailableError("told to fail")
        async with self._inner.transaction(tenant_id) as records:
            yield records


class _WithGhosts:
    """Users have a session whose wizard is gone by the time it is read."""

    def __init__(self, inner):
        self._inner = inner
        self.snapshot = inner.snapshot

    @asynccontextmanager
    async def transaction(self, tenant_id=None):
        async with self._inner.transaction(tenant_id) as records:
            yield replace(records, pending=_Ghosts(records.pending))


class _Ghosts:
    def __init__(self, inner):
        self.find_for_update = inner.find_for_update

    async def sessions(self, *_user):
        return [SessionHash("ghost")]


@pytest.mark.parametrize(
    ("table", "column", "sealed_anew"),
    [
        ("authenticators", "ciphertext", SealCounts(reset_codes=2, pending_enrollments=1)),
        (
            "reset_codes",
            "ciphertext",
            SealCounts(authenticators=1, reset_codes=1, pending_enrollments=1),
        ),
        ("pending_enrollments", "ciphertext", SealCounts(authenticators=1, reset_codes=2)),
        (
            "pending_enrollments",
            "reset_ciphertext",
            SealCounts(authenticators=1, reset_codes=1, pending_enrollments=1),
        ),
    ],
)
async def test_s6_what_cannot_be_opened_stays_and_is_an_alert(
    world, worker, table, column, sealed_anew
):
    """All else of the user, and everybody else, is sealed anew all the same."""
    app = await worker.enrol(ALICE)
    secret = (await worker.begin(ALICE, app.reset_code)).secret.octets
    await worker.confirm(ALICE, code_at(secret, world.clock.now()))
    await worker.begin(person("zoe"))
    world.sql(f"UPDATE {table} SET {column} = zeroblob(60) WHERE user_id = 'alice'")  # noqa: S608
    with capture_logs() as lines:
        told = await everything(world)
    assert [(each.user_id, each.unreadable) for each in told] == [("alice", 1), ("zoe", 0)]
    assert told[0].sealed_anew == sealed_anew
    assert [(line["event"], line["tenant"], line["user"]) for line in lines] == [
        ("sealed_secret_unreadable", "acme", "alice")
    ]
    assert sum(astuple((await counts(world))["old"])) == 1
