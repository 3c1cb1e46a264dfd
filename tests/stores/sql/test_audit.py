"""The promises of `AuditTrail` (S13, S14)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from stepup_tests.keys import fresh_ring

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import NO_HASH, Event, EventKind, chain_hash
from stepup.service.audit import prune
from stepup.service.audit.verification import AuditVerification
from stepup.service.calls.context import HostContext
from stepup.service.ports import EventQuery

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ACME = TenantId("acme")
OTHER = TenantId("other")


def event(tenant_id=ACME, kind=EventKind.OTP_VERIFIED, **fields):
    return Event(
        **{
            "tenant_id": tenant_id,
            "kind": kind,
            "occurred_at": NOW,
            "caller": CallerId("spiffe://example/console"),
            "actor_user_id": UserId("alice"),
            **fields,
        }
    )


async def append(database, *events):
    async with database.transaction() as records:
        return [await records.audit.append(each) for each in events]


async def listed(database, tenant_id=ACME, limit=100, **conditions):
    async with database.snapshot() as records:
        return await records.audit.list(EventQuery(tenant_id, **conditions), limit)


async def sequences(database, **conditions):
    return [chained.sequence for chained in await listed(database, **conditions)]


async def test_each_event_follows_the_one_before(database):
    [first] = await append(database, event())
    [second, third] = await append(database, event(), event())
    assert [second.sequence, third.sequence] == [2, 3]
    assert [second.previous_hash, third.previous_hash] == [first.hash, second.hash]


async def test_every_tenant_has_its_own_chain(database):
    await append(database, event())
    [first] = await append(database, event(OTHER))
    assert (first.sequence, first.previous_hash) == (1, NO_HASH)
    assert await listed(database, OTHER) == [first]


async def test_what_was_appended_is_listed_in_order(database):
    appended = await append(database, *(event(kind=kind) for kind in EventKind))
    assert await listed(database) == appended


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"unicode": 'Zoë 東京 \N{PILE OF POO} \x00 \u2028 \udc80 " \\ </script>'},
        {"numbers": [0, -1, 2**63, 0.1, -0.0, 1.0, 1e16, 1e-7, 5e-324, 1.7976931348623157e308]},
        {"nested": {"b": {"z": [], "a": [None, True, {"é": ""}]}, "a": {}}, "": False},
    ],
)
async def test_the_hash_of_what_is_read_back_is_the_stored_hash(database, details):
    await append(database, event(details=details))
    [read] = await listed(database)
    assert chain_hash(read.event, read.sequence, read.previous_hash) == read.hash
    assert read.event.details == details


async def test_an_instant_is_the_same_in_every_time_zone(database):
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    await append(database, event(occurred_at=local))
    [read] = await listed(database)
    assert read.event.occurred_at == NOW
    assert chain_hash(read.event, read.sequence, read.previous_hash) == read.hash


async def test_an_event_is_listed_with_its_device(database):
    phone, unknown = Device("192.0.2.7", "Firefox"), Device()
    appended = await append(database, event(client=phone), event(client=unknown), event())
    assert await listed(database) == appended
    assert [each.event.client for each in appended] == [phone, unknown, None]


async def test_the_hash_of_a_device_does_not_show_that_two_events_have_one(database):
    first, second = await append(database, *[event(client=Device("192.0.2.7"))] * 2)
    assert len(first.event.details["client"]) == 64
    assert first.event.details["client"] != second.event.details["client"]


@pytest.mark.parametrize("end", ["forget", "purge"])
async def test_an_event_outlives_its_device(database, end):
    [appended] = await append(database, event(client=Device("192.0.2.7")))
    async with database.transaction() as records:
        if end == "forget":
            assert await records.clients.forget(ACME, UserId("alice")) == 1
        else:
            assert await records.clients.purge(NOW + timedelta(days=90), 10) == 1
    [read] = await listed(database)
    assert read == replace(appended, event=replace(appended.event, client=None))
    assert chain_hash(read.event, read.sequence, read.previous_hash) == read.hash


async def remaining(database, tenant_id=ACME):
    return [each.sequence for each in await listed(database, tenant_id) if each.event.client]


async def test_the_devices_of_one_user_of_one_tenant_are_forgotten(database):
    client = Device("192.0.2.7")
    await append(database, *(event(tenant, client=client) for tenant in (ACME, ACME, OTHER)))
    await append(database, event(actor_user_id=UserId("bob"), client=client))
    await append(
        database,
        event(actor_user_id=UserId("admin"), subject_user_id=UserId("alice"), client=client),
    )
    async with database.transaction() as records:
        assert await records.clients.forget(ACME, UserId("alice")) == 2
        assert await records.clients.forget(ACME, UserId("alice")) == 0
    assert await remaining(database) == [3, 4]
    assert await remaining(database, OTHER) == [1]


async def test_devices_of_events_before_an_instant_are_purged_in_portions(database):
    for seconds in range(4):
        at = NOW + timedelta(seconds=seconds)
        await append(database, event(occurred_at=at, client=Device("192.0.2.7")))
    before = NOW + timedelta(seconds=3)
    async with database.transaction() as records:
        assert await records.clients.purge(before, 2) == 2
        assert await records.clients.purge(before, 2) == 1
    assert await remaining(database) == [4]


async def test_an_event_that_was_rolled_back_leaves_no_gap(database):
    async def give_up():
        async with database.transaction() as records:
            await records.audit.append(event())
            raise LookupError

    with pytest.raises(LookupError):
        await give_up()
    await append(database, event())
    assert await sequences(database) == [1]


@pytest.mark.race
async def test_parallel_transactions_leave_no_gap_and_no_fork(database):
    await asyncio.gather(*(append(database, event(), event()) for _ in range(10)))
    chain = await listed(database)
    assert [chained.sequence for chained in chain] == list(range(1, 21))
    assert [chained.previous_hash for chained in chain] == [
        NO_HASH,
        *(chained.hash for chained in chain[:-1]),
    ]


@pytest.fixture
async def three(database):
    await append(
        database,
        event(actor_user_id=UserId("admin"), subject_user_id=UserId("alice")),
        event(kind=EventKind.OTP_REJECTED, occurred_at=NOW + timedelta(seconds=1)),
        event(
            kind=EventKind.POLICY_CHANGED,
            actor_user_id=UserId("admin"),
            occurred_at=NOW + timedelta(seconds=2),
        ),
    )
    return database


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [1, 2, 3]),
        ({"limit": 2}, [1, 2]),
        ({"after_sequence": 1, "limit": 1}, [2]),
        ({"after_sequence": 3}, []),
        ({"start": NOW + timedelta(seconds=1)}, [2, 3]),
        ({"end": NOW + timedelta(seconds=1)}, [1]),
        ({"user_id": UserId("alice")}, [1, 2]),
        ({"user_id": UserId("admin")}, [1, 3]),
        ({"kinds": frozenset({EventKind.OTP_REJECTED, EventKind.POLICY_CHANGED})}, [2, 3]),
        ({"user_id": UserId("admin"), "start": NOW + timedelta(seconds=1)}, [3]),
        ({"newest_first": True}, [3, 2, 1]),
        ({"newest_first": True, "limit": 2}, [3, 2]),
        ({"newest_first": True, "before_sequence": 3, "limit": 1}, [2]),
        ({"newest_first": True, "user_id": UserId("admin")}, [3, 1]),
        ({"before_sequence": 3}, [1, 2]),
    ],
)
async def test_every_condition_holds(three, conditions, expected):
    assert await sequences(three, **conditions) == expected


@pytest.mark.race
async def test_two_prunes_at_once_leave_one_chain(database, monkeypatch):
    monkeypatch.setattr(prune, "PORTION", 2)
    await append(database, *(event(client=Device("192.0.2.7")) for _ in range(9)))
    later = NOW + timedelta(days=1)
    keys, context = fresh_ring(), HostContext(prune.PRUNE, ACME, later, "sam", "host-1")
    work = prune.PruneAudit(database, keys)
    assert await work.count(ACME, later) == 8
    deleted = await asyncio.gather(*(work(context, later) for _ in range(4)))
    assert sum(deleted) >= 8
    assert (await sequences(database))[0] >= 9
    assert [damage async for damage in AuditVerification(database, keys).of_all()] == []
