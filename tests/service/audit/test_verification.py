"""`stepup audit verify` reads all chains, page by page, while others append to them (S14)."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.people import ACME, person

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind
from stepup.domain.chain import Damage, Head
from stepup.domain.errors import StoreUnavailableError
from stepup.service.audit.verification import PAGE, AuditVerification

GLOBEX = TenantId("globex")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def found(verification, tenant=None):
    damages = verification.of(tenant) if tenant else verification.of_all()
    return [damage async for damage in damages]


async def happens(worker, *tenants):
    for tenant in tenants:
        await worker.revoke(person(tenant=tenant))


@pytest.fixture
async def two_tenants(worker):
    await happens(worker, "acme", "acme", "acme", "globex", "globex")


def cut(world, tenant, last):
    """Take the last events of a chain away, and its head with them."""
    world.sql("DELETE FROM audit_events WHERE tenant_id = ? AND sequence > ?", tenant, last)
    world.sql(
        "UPDATE audit_heads SET (sequence, hash) = (SELECT sequence, hash FROM audit_events"
        " WHERE tenant_id = ?1 AND sequence = ?2) WHERE tenant_id = ?1",
        tenant,
        last,
    )


@pytest.mark.usefixtures("two_tenants")
async def test_s14_everything_is_read_and_intact(world):
    verification = AuditVerification(world.database, world.keys)
    assert await found(verification) == []
    assert (verification.tenants, verification.events) == (2, 5)


@pytest.mark.usefixtures("two_tenants")
async def test_s14_the_damage_of_every_tenant_is_found(world):
    world.sql("UPDATE audit_events SET caller = 'mallory' WHERE sequence = 2")
    assert {
        (each.tenant, each.sequence)
        for each in await found(AuditVerification(world.database, world.keys))
    } == {
        ("acme", 2),
        ("globex", 2),
    }


@pytest.mark.usefixtures("two_tenants")
async def test_one_tenant_may_be_verified_without_the_others(world):
    world.sql("UPDATE audit_events SET caller = 'mallory' WHERE sequence = 2")
    verification = AuditVerification(world.database, world.keys)
    assert {each.tenant for each in await found(verification, GLOBEX)} == {"globex"}
    assert (verification.tenants, verification.events) == (1, 2)


@pytest.mark.usefixtures("two_tenants")
async def test_s14_a_row_of_no_tenant_is_found(world):
    world.sql("UPDATE audit_events SET tenant_id = x'00' WHERE sequence = 3")
    assert [
        (each.tenant, each.sequence)
        for each in await found(AuditVerification(world.database, world.keys))
    ] == [
        ("\0", 3),
        ("acme", 3),
    ]


@pytest.mark.usefixtures("two_tenants")
async def test_s14_a_chain_that_was_cut_with_its_head_is_found_by_an_exported_head(world):
    async with world.database.snapshot() as records:
        exported = {"acme": await records.audit.head(ACME)}
    assert await found(AuditVerification(world.database, world.keys, exported)) == []
    cut(world, "acme", 1)
    assert await found(AuditVerification(world.database, world.keys)) == []
    assert await found(AuditVerification(world.database, world.keys, exported)) == [
        Damage("acme", 2, "events 2 to 3 are missing which the exported head counts")
    ]


@pytest.mark.usefixtures("two_tenants")
async def test_s14_a_tenant_that_is_gone_is_missed_by_an_exported_head(world):
    exported = {"umbrella": Head(7, bytes(32)), "acme": Head(9, bytes(32))}
    verification = AuditVerification(world.database, world.keys, exported)
    assert {each.tenant for each in await found(verification)} == {"umbrella", "acme"}
    assert verification.tenants == 3


async def test_s14_an_exported_head_counts_for_its_tenant_only(world, worker):
    await happens(worker, "acme", "globex")
    verification = AuditVerification(world.database, world.keys, {"umbrella": Head(7, bytes(32))})
    assert await found(verification, ACME) == []


async def test_what_cannot_be_read_is_not_called_intact(world):
    world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await found(AuditVerification(world.database, world.keys))


class GrowingChain:
    """A chain in memory; `after_page` is called between a page and what is asked next."""

    def __init__(self, length):
        self.rows = []
        self.after_page = lambda: None
        self.lost = set()
        self.pages = []
        for _ in range(length):
            self.append()

    def append(self):
        last = self.rows[-1] if self.rows else None
        event = Event(ACME, EventKind.OTP_VERIFIED, NOW, CallerId("c"), UserId("u"))
        place = (last.sequence, last.hash) if last else (0, NO_HASH)
        self.rows.append(ChainedEvent.after(*place, event))

    @property
    def audit(self):
        return self

    @asynccontextmanager
    async def snapshot(self):
        yield self

    async def stored(self, _tenant, place, limit):
        readable = [row for row in self.rows if row.sequence not in self.lost]
        from_place = [row for row in readable if row.sequence >= (place.sequence or 0)]
        page = from_place[place.seen :][:limit]
        self.pages.append(len(page))
        self.after_page()
        return page

    async def clients(self, _tenant, _after, _through, _limit):
        return []

    async def checkpoint(self, _tenant):
        return None

    async def head(self, _tenant):
        return Head(self.rows[-1].sequence, self.rows[-1].hash)


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
async def test_a_long_chain_is_read_page_by_page(length):
    chain = GrowingChain(length)
    verification = AuditVerification(chain, fresh_ring())
    assert await found(verification, ACME) == []
    assert verification.events == length
    assert max(chain.pages) <= PAGE


async def test_an_event_that_is_appended_meanwhile_is_not_missing():
    chain = GrowingChain(3)
    chain.after_page = lambda: len(chain.rows) < 6 and chain.append()
    verification = AuditVerification(chain, fresh_ring())
    assert await found(verification, ACME) == []
    assert verification.events == 6


async def test_an_event_that_is_appended_after_an_empty_page_is_not_missing():
    chain = GrowingChain(PAGE)
    chain.after_page = lambda: len(chain.pages) == 2 and chain.append()
    assert await found(AuditVerification(chain, fresh_ring()), ACME) == []
    assert chain.pages == [PAGE, 0, 1]


async def test_s14_events_at_the_end_are_missing_though_the_chain_grows():
    chain = GrowingChain(3)
    chain.lost = {3, 4, 5}
    chain.after_page = lambda: len(chain.rows) < 5 and chain.append()
    assert [
        each.sequence for each in await found(AuditVerification(chain, fresh_ring()), ACME)
    ] == [3]


async def test_s14_a_row_that_stands_twice_is_found_across_pages():
    chain = GrowingChain(PAGE + 1)
    chain.rows.insert(PAGE, replace(chain.rows[PAGE - 1]))
    assert [each.problem for each in await found(AuditVerification(chain, fresh_ring()), ACME)] == [
        "there are two events of this number"
    ]
