"""The promises of `Redemptions` (S16)."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from stepup.domain.actor import TenantId
from stepup.domain.receipts import Redemption
from stepup.stores.sql.tables import redemptions

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ACME = TenantId("acme")
OTHER = TenantId("other")
DECISION = UUID("9b2c1f80-5b0e-4b57-8a43-0d1a3c6f7e21")
REDEMPTION = Redemption(uuid4(), NOW, uuid4(), 7)


async def redeem(database, tenant_id=ACME, redemption=REDEMPTION):
    async with database.transaction() as records:
        return await records.redemptions.redeem(tenant_id, DECISION, redemption, NOW)


async def find(database, tenant_id=ACME):
    async with database.snapshot() as records:
        return await records.redemptions.find(tenant_id, DECISION)


async def test_a_receipt_is_redeemed_once(database):
    assert await redeem(database) is True
    assert await redeem(database) is False


async def test_receipts_of_two_tenants_are_two(database):
    await redeem(database)
    assert await redeem(database, OTHER) is True


@pytest.mark.race
async def test_of_parallel_redemptions_one_wins_and_the_others_find_it(database):
    async def redeem_or_find(redemption):
        async with database.transaction() as records:
            if await records.redemptions.redeem(ACME, DECISION, redemption, NOW):
                return redemption
            return await records.redemptions.find(ACME, DECISION)

    attempts = [Redemption(uuid4(), NOW) for _ in range(8)]
    found = await asyncio.gather(*map(redeem_or_find, attempts))
    assert len(set(found)) == 1
    assert found[0] in attempts


@pytest.mark.parametrize("redemption", [REDEMPTION, Redemption(uuid4(), NOW)], ids=["named", "not"])
async def test_a_redemption_is_found_as_it_was_recorded(database, redemption):
    await redeem(database, redemption=redemption)
    await redeem(database, redemption=Redemption(uuid4(), NOW))
    assert await find(database) == redemption
    assert await find(database, OTHER) is None


async def test_of_a_server_of_an_earlier_version_a_redemption_stands_and_is_not_found(database):
    await redeem(database)
    async with database.transaction() as records:
        # What such a server does not write is null.
        statement = update(redemptions).values(
            redeemed_by=None, redeemed_at=None, request_id=None, check_index=None
        )
        await records.redemptions._connection.write(statement)  # noqa: SLF001
    assert await find(database) is None
    assert await redeem(database) is False


@pytest.mark.parametrize(
    ("later", "forgotten"), [(timedelta(microseconds=-1), False), (timedelta(), True)]
)
async def test_a_redemption_is_kept_until_it_may_be_forgotten(database, later, forgotten):
    await redeem(database)
    async with database.transaction() as records:
        await records.redemptions.purge(NOW + later, 10)
    assert await redeem(database) is forgotten
