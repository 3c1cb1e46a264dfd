"""Tenants that were never given a policy: counted, and refused where that is wanted."""

from dataclasses import replace

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import ACME, administrator

from stepup.domain.actor import TenantId
from stepup.domain.errors import StoreUnavailableError, UnknownTenantError

METRIC = "stepup_unknown_tenant_calls_total"


@pytest.fixture
def known(worker):
    return worker.application.known_tenants


async def test_an_unknown_tenant_is_allowed_and_counted(known):
    before = metric(METRIC)
    await known.demand(ACME)
    assert metric(METRIC) == before + 1


async def test_an_unknown_tenant_is_refused_and_counted_where_that_is_wanted(known):
    before = metric(METRIC)
    with pytest.raises(UnknownTenantError):
        await replace(known, refuse=True).demand(ACME)
    assert metric(METRIC) == before + 1


async def test_a_tenant_with_a_policy_is_known_also_with_a_disabled_one(worker, known):
    await worker.update_policy(administrator(), enabled=False)
    before = metric(METRIC)
    await replace(known, refuse=True).demand(ACME)
    assert metric(METRIC) == before
    with pytest.raises(UnknownTenantError):
        await replace(known, refuse=True).demand(TenantId("acne"))


async def test_an_unknown_tenant_is_refused_by_a_worker_that_cannot_know(world, known):
    world.clock.advance(seconds=6)
    await known.demand(ACME)
    with pytest.raises(StoreUnavailableError):
        await replace(known, refuse=True).demand(ACME)
