"""The promises of `Policies` and `Accounts`."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import TenantId, UserId
from stepup.domain.errors import ConflictError
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.totp import Label

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ACME = TenantId("acme")
OTHER = TenantId("other")
ALICE = UserId("alice")
FIRST = Policy(
    tenant_id=ACME,
    enabled=True,
    max_ages={
        OperationId("response.run_osquery"): timedelta(seconds=60),
        OperationId("iam.configure_api_keys"): timedelta(minutes=15),
        OperationId("response.start_remote_shell"): EVERY_TIME,
    },
    version=1,
    updated_at=NOW,
    issuer=Label("Äcme"),
)


async def save(database, policy):
    async with database.transaction() as records:
        await records.policies.save(policy)


async def found(database, tenant_id=ACME):
    async with database.snapshot() as records:
        return await records.policies.find(tenant_id)


async def test_what_was_saved_is_found(database):
    await save(database, FIRST)
    assert await found(database) == FIRST


async def test_a_policy_takes_the_place_of_the_version_before(database):
    await save(database, FIRST)
    second = Policy(ACME, version=2, updated_at=NOW + timedelta(microseconds=1))
    await save(database, second)
    assert await found(database) == second


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_any_other_version_is_refused(database, version):
    await save(database, FIRST)
    with pytest.raises(ConflictError):
        await save(database, replace(FIRST, enabled=False, version=version))
    assert await found(database) == FIRST


async def test_equal_selections_take_memory_once(database):
    for tenant in (ACME, OTHER):
        await save(database, replace(FIRST, tenant_id=tenant))
    assert (await found(database, ACME)).max_ages is (await found(database, OTHER)).max_ages


async def test_the_first_policy_is_version_1(database):
    with pytest.raises(ConflictError):
        await save(database, replace(FIRST, version=2))


@pytest.mark.race
async def test_of_parallel_policies_one_is_stored(database):
    outcomes = await asyncio.gather(
        *(save(database, FIRST) for _ in range(8)), return_exceptions=True
    )
    assert outcomes.count(None) == 1


async def toggle(database, tenant_id=ACME):
    async with database.snapshot() as records:
        return await records.accounts.mfa_enabled(tenant_id, ALICE)


async def test_a_toggle_is_turned_on_and_off(database):
    for position in (True, False, True):
        async with database.transaction() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, position)
        assert await toggle(database) is position


async def test_a_toggle_belongs_to_one_tenant(database):
    async with database.transaction() as records:
        await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
    assert await toggle(database, OTHER) is False
