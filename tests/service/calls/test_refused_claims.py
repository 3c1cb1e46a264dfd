"""S16: refused claims are on record, once a minute for a caller, tenant and claim."""

import asyncio

import pytest
from stepup_tests.people import ACME, person

from stepup.domain.audit import EventKind
from stepup.domain.errors import StoreUnavailableError
from stepup.service.calls import refused_claims
from stepup.service.calls.refused_claims import RefusedClaims

CLAIM = "managed_services"


@pytest.fixture
def record(world, worker):
    refused = RefusedClaims(world.database)

    async def record(actor=None, claim=CLAIM, caller="soar"):
        context = worker.context(actor or person(), caller)
        await refused(context, "StepUpService/CheckStepUp", None, claim)

    return record


async def left_out(worker, tenant=ACME):
    events = await worker.events(EventKind.CLAIM_REFUSED, tenant=tenant)
    return [event.details["left_out"] for event in events]


async def test_s16_a_flood_is_one_event_a_minute_that_counts_those_before(worker, record):
    await asyncio.gather(*(record() for _ in range(20)))
    assert await left_out(worker) == [0]
    worker.clock.advance(seconds=59)
    await record()
    assert await left_out(worker) == [0]
    worker.clock.advance(seconds=1)
    await record()
    worker.clock.advance(minutes=1)
    await record()
    assert await left_out(worker) == [0, 20, 0]


async def test_s16_another_caller_tenant_or_claim_is_on_record_at_once(worker, record):
    await record()
    await record(caller="console")
    await record(claim="automatic_playbook")
    await record(person(tenant="globex"))
    assert await left_out(worker) == [0, 0, 0]
    assert await left_out(worker, "globex") == [0]


async def test_s16_one_that_could_not_be_recorded_is_counted_by_the_next(world, worker, record):
    world.database.audit_trail_takes_events = False
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await record()
    world.database.audit_trail_takes_events = True
    await record()
    assert await left_out(worker) == [2]


async def test_s16_what_is_remembered_is_bounded(worker, record, monkeypatch):
    monkeypatch.setattr(refused_claims, "MAX_REMEMBERED", 2)
    for claim in ("one", "two", "three", "three", "one"):
        await record(claim=claim)
    assert await left_out(worker) == [0, 0, 0, 0]
