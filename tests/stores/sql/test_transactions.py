"""The promises of `Database`."""

import asyncio
import traceback
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.receipts import Redemption
from stepup.service.ports import EventQuery
from stepup.stores.sql import Limits, SqlDatabase

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACME = TenantId("acme")
ALICE = UserId("alice")
CANARY = b"a sealed secret"
EVENT = Event(ACME, EventKind.ACCOUNT_MFA_CHANGED, NOW, CallerId("console"), ALICE)


async def turn_on(records):
    await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
    await records.audit.append(EVENT)


async def state(records):
    """The toggle, and how many events there are."""
    events = await records.audit.list(EventQuery(ACME), 100)
    return await records.accounts.mfa_enabled(ACME, ALICE), len(events)


async def stored(database):
    async with database.snapshot() as records:
        return await state(records)


async def test_nothing_of_a_transaction_with_an_error_is_stored(database):
    async def give_up():
        async with database.transaction() as records:
            await turn_on(records)
            raise LookupError

    with pytest.raises(LookupError):
        await give_up()
    assert await stored(database) == (False, 0)


async def test_nothing_of_a_cancelled_transaction_is_stored(database):
    written = asyncio.Event()

    async def write():
        async with database.transaction() as records:
            await turn_on(records)
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(database) == (False, 0)


async def test_a_transaction_reads_what_it_wrote(database):
    async with database.transaction() as records:
        await turn_on(records)
        assert await state(records) == (True, 1)


async def test_a_snapshot_sees_nothing_of_an_open_transaction(database):
    async with database.transaction() as records:
        await turn_on(records)
        assert await stored(database) == (False, 0)


async def test_each_read_of_a_snapshot_sees_what_was_committed_before_it(database):
    async with database.snapshot() as snapshot:
        assert await state(snapshot) == (False, 0)
        async with database.transaction() as records:
            await turn_on(records)
        assert await state(snapshot) == (True, 1)


async def test_a_snapshot_does_not_write(database):
    with pytest.raises(StoreUnavailableError):
        async with database.snapshot() as records:
            await records.accounts.set_mfa_enabled(ACME, ALICE, enabled=True)
    assert await stored(database) == (False, 0)


async def test_nothing_follows_a_statement_that_failed(database):
    naive = datetime(2026, 3, 1)  # noqa: DTZ001 - what the database refuses

    async def go_on_regardless():
        async with database.transaction() as records:
            await turn_on(records)
            with pytest.raises(StoreUnavailableError):
                await records.redemptions.redeem(ACME, uuid4(), Redemption(uuid4(), naive), naive)
            with pytest.raises(StoreUnavailableError):
                await records.audit.append(EVENT)

    with pytest.raises(StoreUnavailableError):
        await go_on_regardless()
    assert await stored(database) == (False, 0)


async def test_an_error_shows_nothing_of_what_was_to_be_stored(database):
    nameless = Authenticator(ACME, ALICE, None, SealedSecret("key-1", CANARY), NOW, 1)
    with pytest.raises(StoreUnavailableError) as raised:
        async with database.transaction() as records:
            await records.authenticators.add(nameless)
    assert isinstance(raised.value.__cause__, IntegrityError)
    assert CANARY.decode() not in "".join(traceback.format_exception(raised.value))


async def test_who_waits_too_long_for_a_connection_is_told(url):
    database = SqlDatabase(url, Limits.lasting(timedelta(milliseconds=50), connections=1))
    async with database.transaction():
        with pytest.raises(StoreUnavailableError):
            async with database.transaction():
                pass
    await database.close()


@pytest.mark.race
async def test_of_parallel_transactions_none_is_lost(database):
    async def add():
        async with database.transaction() as records:
            await records.audit.append(EVENT)

    await asyncio.gather(*(add() for _ in range(30)))
    assert await stored(database) == (False, 30)


async def test_two_databases_on_one_store_wait_for_each_other(url, database):
    other = SqlDatabase(url)
    async with database.transaction() as records:
        await records.audit.append(EVENT)
        waiting = asyncio.create_task(add_event(other))
        await stored(other)
        assert not waiting.done()
    await waiting
    assert await stored(database) == (False, 2)
    await other.close()


async def add_event(database):
    async with database.transaction() as records:
        await records.audit.append(EVENT)


@pytest.mark.parametrize(
    "url", ["", "mysql://host/a", "sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=ro"]
)
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(ValueError, match="URL"):
        SqlDatabase(url)


def test_a_refused_url_is_not_repeated():
    with pytest.raises(ValueError, match="URL") as raised:
        SqlDatabase("mysql://user:canary@host/a")
    assert "canary" not in str(raised.value)
    assert raised.value.__suppress_context__
