"""`stepup audit prune` deletes the oldest events, and signs a checkpoint in their place (S14)."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.people import ACME, person
from stepup_tests.rotation import rotated_ring

from stepup.domain.actor import Device, TenantId
from stepup.domain.audit import EventKind, written
from stepup.domain.chain import Head
from stepup.domain.errors import StoreUnavailableError
from stepup.keys.ring import KeyRing
from stepup.service.audit import prune
from stepup.service.audit.prune import PRUNE, ChainDamagedError, PruneAudit
from stepup.service.audit.verification import AuditVerification
from stepup.service.calls.context import HostContext

ALICE = replace(person("alice"), client=Device("192.0.2.7", "Firefox"))
FOREVER = timedelta(days=1000)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    monkeypatch.setattr(prune, "PORTION", 2)


@pytest.fixture
async def start(worker):
    """Seven events, one each minute; the instant of the first."""
    first = worker.clock.now()
    for _ in range(7):
        await worker.revoke(ALICE)
        await worker.advance(minutes=1)
    return first


def context(world, tenant_id=ACME):
    return HostContext(PRUNE, tenant_id, world.clock.now(), "sam", "host-1")


async def pruned(world, before, keys=None):
    return await PruneAudit(world.database, keys or world.keys)(context(world), before)


async def damages(world, *, keys=None, exported=None):
    verification = AuditVerification(world.database, keys or world.keys, exported or {})
    return [(damage.sequence, damage.problem) async for damage in verification.of_all()]


async def heads(world):
    async with world.database.snapshot() as records:
        return {"acme": await records.audit.head(ACME)}


async def sequences(worker):
    return [event.sequence for event in await worker.export()]


async def test_events_before_an_instant_are_deleted_with_their_devices(world, worker, start):
    before = start + timedelta(minutes=3)
    assert await PruneAudit(world.database, world.keys).count(ACME, before) == 3
    assert await sequences(worker) == [1, 2, 3, 4, 5, 6, 7]
    assert await pruned(world, before) == 3
    assert (await sequences(worker))[:2] == [4, 5]
    assert len(world.tables()["event_clients"]) == 4
    assert await damages(world) == []


@pytest.mark.usefixtures("start")
async def test_each_portion_has_an_event_that_names_the_user_of_the_machine(world, worker):
    before = world.clock.now()
    await pruned(world, before)
    events = [each.event for each in await worker.export()]
    of_prune = [event for event in events if event.kind is EventKind.AUDIT_PRUNED]
    assert [event.details["through_sequence"] for event in of_prune] == [2, 4, 6]
    assert of_prune[0].details == {
        "os_user": "sam",
        "host": "host-1",
        "through_sequence": 2,
        "events": 2,
        "before": written(before),
    }
    assert (of_prune[0].caller, of_prune[0].actor_user_id) == (PRUNE, None)


async def test_the_last_event_of_a_chain_stays(world, worker):
    await worker.revoke(ALICE)
    later = world.clock.now() + FOREVER  # also later than the event of the prune
    assert await PruneAudit(world.database, world.keys).count(ACME, later) == 0
    assert await pruned(world, later) == 0
    assert await sequences(worker) == [1]
    assert world.tables()["audit_checkpoints"] == []


async def test_a_tenant_without_events_has_none_to_delete(world):
    assert await PruneAudit(world.database, world.keys).count(ACME, world.clock.now()) == 0


async def test_pruning_ends_at_the_first_event_that_is_not_older(world, worker, start):
    world.sql(
        "UPDATE audit_events SET occurred_at = ? WHERE sequence = 7", "2020-01-01 00:00:00.000000"
    )
    assert await pruned(world, start) == 0
    assert await sequences(worker) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.usefixtures("start")
async def test_what_a_killed_prune_has_deleted_has_a_checkpoint(world, worker):
    async def fail():
        world.database.writes = False

    async def fail_at_next():
        world.database.before_transaction = fail

    world.database.before_transaction = fail_at_next
    with pytest.raises(StoreUnavailableError):
        await pruned(world, world.clock.now())
    world.database.writes = True
    assert (await sequences(worker))[0] == 3
    assert await damages(world) == []
    assert await pruned(world, world.clock.now()) == 5  # with event 7, which was the last one
    assert await damages(world) == []


@pytest.mark.usefixtures("start")
async def test_a_portion_that_fails_changes_nothing(world):
    world.database.commits = False
    await world.refuses(pruned(world, world.clock.now()))


@pytest.mark.usefixtures("start")
async def test_two_prunes_at_once_leave_one_chain(world, worker):
    before = world.clock.now()
    deleted = await asyncio.gather(*(pruned(world, before) for _ in range(2)))
    assert sum(deleted) == 6
    assert (await sequences(worker))[0] == 7
    assert await damages(world) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET caller = 'mallory' WHERE sequence = 2",
        "DELETE FROM audit_events WHERE sequence = 1",
        "DELETE FROM audit_events WHERE sequence = 2",
        # The event after those to delete has the hash of the last of these.
        "UPDATE audit_events SET previous_hash = zeroblob(32) WHERE sequence = 4",
        "UPDATE audit_events SET occurred_at = 'long ago' WHERE sequence = 1",
        "UPDATE audit_heads SET hash = 'text'",
    ],
)
async def test_s14_damaged_events_stay_as_evidence(world, start, change):
    world.sql(change)
    before = start + timedelta(minutes=3)
    with pytest.raises(ChainDamagedError):
        await PruneAudit(world.database, world.keys).count(ACME, before)
    with pytest.raises(ChainDamagedError):
        await pruned(world, before)
    assert len(world.tables()["audit_events"]) >= 4
    assert await damages(world) != []


@pytest.fixture
async def through_three(world, start):
    """A chain that begins after event 3, and its heads before and after the prune."""
    before = await heads(world)
    await pruned(world, start + timedelta(minutes=3))
    return before, await heads(world)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DELETE FROM audit_checkpoints", "events 1 to 3 are missing at the beginning"),
        ("UPDATE audit_checkpoints SET sequence = 4", "the checkpoint: the signature does not"),
        ("UPDATE audit_checkpoints SET hash = zeroblob(32)", "the checkpoint: the signature does"),
        ("UPDATE audit_checkpoints SET signature = x''", "the checkpoint: the signature does not"),
        ("UPDATE audit_checkpoints SET pruned_at = '2026-01-01 00:00:00.000000'", "the signature"),
        ("UPDATE audit_checkpoints SET key_id = 'k'", "the key ring has no key with this id: 'k'"),
        ("UPDATE audit_checkpoints SET hash = 'text'", "a column has a type"),
        ("UPDATE audit_checkpoints SET tenant_id = 'other'", "events 1 to 3 are missing"),
        ("UPDATE audit_checkpoints SET tenant_id = x'00'", "the row belongs to no tenant"),
        ("DELETE FROM audit_events WHERE sequence = 4", "event 4 is missing in between"),
        ("DELETE FROM audit_events WHERE sequence > 3", "all events after the checkpoint are"),
        ("UPDATE audit_events SET sequence = 2 WHERE sequence = 4", "the event was pruned, and is"),
        ("UPDATE event_clients SET sequence = 2 WHERE sequence = 4", "there is a device without"),
    ],
)
@pytest.mark.usefixtures("through_three")
async def test_s14_a_checkpoint_hides_no_damage(world, change, problem):
    world.sql(change)
    if change.startswith("DELETE FROM audit_events WHERE sequence >"):
        world.sql(
            "UPDATE audit_heads SET (sequence, hash) = (SELECT sequence, hash FROM"
            " audit_checkpoints)"
        )
    assert any(problem in found for _, found in await damages(world))


@pytest.mark.usefixtures("through_three")
async def test_s14_the_checkpoint_of_another_tenant_is_found(world, worker):
    for _ in range(5):
        await worker.revoke(person(tenant="other"))
    world.sql("DELETE FROM audit_events WHERE tenant_id = 'other' AND sequence <= 3")
    world.sql(
        "INSERT INTO audit_checkpoints SELECT 'other', sequence, hash, pruned_at, key_id,"
        " signature FROM audit_checkpoints"
    )
    assert "the checkpoint: the signature does not match" in [
        problem for _, problem in await damages(world)
    ]


@pytest.mark.usefixtures("through_three")
async def test_s14_a_checkpoint_of_another_key_ring_is_found(world):
    found = await damages(world, keys=fresh_ring())
    assert "the key ring has no key with this id" in found[0][1]


async def test_s14_an_earlier_checkpoint_does_not_count(world, start):
    await pruned(world, start + timedelta(minutes=2))
    [earlier] = world.tables()["audit_checkpoints"]
    await pruned(world, start + timedelta(minutes=4))
    world.sql(
        "UPDATE audit_checkpoints SET (sequence, hash, pruned_at, signature) = (?, ?, ?, ?)",
        *earlier[1:4],
        earlier[5],
    )
    assert [each for each in await damages(world) if each[0] == 3] == [
        (3, "events 3 to 4 are missing in between")
    ]


@pytest.mark.usefixtures("through_three")
@pytest.mark.parametrize("change", ["hash = zeroblob(32)", "signature = x''"])
async def test_s14_nothing_is_pruned_after_a_damaged_checkpoint(world, change):
    world.sql(f"UPDATE audit_checkpoints SET {change}")  # noqa: S608  # a test's own words
    with pytest.raises(ChainDamagedError):
        await pruned(world, world.clock.now())
    with pytest.raises(ChainDamagedError):
        await PruneAudit(world.database, world.keys).count(ACME, world.clock.now())


async def test_s14_heads_that_were_exported_before_a_prune_still_count(world, through_three):
    before, after = through_three
    assert await damages(world, exported=before) == []
    assert await damages(world, exported=after) == []
    assert await damages(world, exported={"acme": Head(2, bytes(32))}) == []


@pytest.mark.usefixtures("through_three")
async def test_s14_an_exported_head_must_have_the_hash_of_the_checkpoint(world):
    [stored] = world.tables()["audit_checkpoints"]
    assert await damages(world, exported={"acme": Head(3, stored[2])}) == []
    assert await damages(world, exported={"acme": Head(3, bytes(32))}) == [
        (3, "the checkpoint has another hash than the exported head")
    ]


async def test_s14_each_prune_signs_with_the_primary_key_so_that_a_key_can_leave(world, start):
    rotated = rotated_ring()
    old = KeyRing("old", {"old": bytes(32)})
    await pruned(world, start + timedelta(minutes=3), old)
    assert await damages(world, keys=rotated) == []
    assert await pruned(world, start, rotated) == 0
    [stored] = world.tables()["audit_checkpoints"]
    assert (stored[1], stored[4]) == (3, "new")
    assert await damages(world, keys=KeyRing("new", {"new": bytes([1] * 32)})) == []


class _Interleaved:
    """A database in which events are pruned between two reads of a verification."""

    def __init__(self, world, at, before):
        self._world, self._at, self._before = world, at, before
        self.reads = 0

    def snapshot(self):
        return _Snapshot(self, self._world.database.snapshot())

    async def read(self):
        self.reads += 1
        if self.reads == self._at:
            await pruned(self._world, self._before)


class _Snapshot:
    def __init__(self, database, inner):
        self._database, self._inner = database, inner

    async def __aenter__(self):
        await self._database.read()
        return await self._inner.__aenter__()

    async def __aexit__(self, *error):
        return await self._inner.__aexit__(*error)


@pytest.mark.race
@pytest.mark.parametrize("at", range(3, 13, 2))
async def test_events_that_are_pruned_during_a_verification_are_not_missing(
    world, start, monkeypatch, at
):
    monkeypatch.setattr("stepup.service.audit.verification.PAGE", 2)
    await pruned(world, start + timedelta(minutes=1))
    database = _Interleaved(world, at, world.clock.now())
    verification = AuditVerification(database, world.keys)
    assert [damage async for damage in verification.of(ACME)] == []


async def test_other_tenants_keep_their_events(world, worker, start):
    for _ in range(3):
        await worker.revoke(person(tenant="other"))
    await pruned(world, start + FOREVER)
    assert len(await worker.export(TenantId("other"))) == 3
