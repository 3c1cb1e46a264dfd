"""The promises of `PendingEnrollments` (S7)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.errors import ConflictError
from stepup.domain.totp import Label

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
WIZARD = PendingEnrollment(
    tenant_id=TenantId("acme"),
    user_id=UserId("alice"),
    session_hash=SessionHash("a" * 32),
    enrollment_id="enrollment-1",
    sealed_secret=SealedSecret("key-1", b"\x00sealed\xff"),
    account_name=Label("älice@例え.example"),
    expires_at=NOW + timedelta(minutes=10),
    issuer=Label("Äcme"),
    replaces="enrollment-0",
    by_reset_code=True,
    elevated_at=NOW - timedelta(minutes=1, microseconds=1),
)
KEY = (WIZARD.tenant_id, WIZARD.user_id, WIZARD.session_hash)
CONFIRMED = replace(WIZARD, confirmed_step=100)
RESET = ResetCodeRecord(
    *KEY[:2], WIZARD.enrollment_id, SealedSecret("key-1", b"\x00sealed\xff"), b"\x00digest\xff"
)


@pytest.fixture
async def begun(database):
    await put(database, WIZARD)
    return database


async def put(database, wizard):
    async with database.transaction() as records:
        await records.pending.replace(wizard)


async def found(database, key=KEY):
    async with database.snapshot() as records:
        return await records.pending.find(*key)


async def save(database, wizard, reset_code=None):
    async with database.transaction() as records:
        await records.pending.save(wizard, reset_code)


async def stored_reset_code(database, wizard=WIZARD):
    async with database.snapshot() as records:
        return await records.pending.reset_code(wizard)


async def test_a_name_that_an_earlier_release_took_is_read(database):
    name = str.__new__(Label, "  ")
    await put(database, replace(WIZARD, account_name=name))
    assert (await found(database)).account_name == name


async def test_s7_of_two_that_begin_at_once_the_later_finds_what_the_earlier_put(database):
    async def begin(number):
        async with database.transaction() as records:
            found = await records.pending.find_for_update(*KEY)
            if found is None:
                await records.pending.replace(replace(WIZARD, enrollment_id=f"enrollment-{number}"))
            return found

    begun = await asyncio.gather(*(begin(number) for number in range(3)))
    assert begun.count(None) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_no_other_tenant_user_or_session_has_it(begun, place):
    key = [*KEY]
    key[place] = type(key[place])("other")
    assert await found(begun, key) is None


async def test_putting_replaces_the_sessions_earlier_wizard(begun):
    await save(begun, CONFIRMED, RESET)
    anew = replace(WIZARD, enrollment_id="enrollment-2", replaces=None, by_reset_code=False)
    await put(begun, replace(anew, version=5))
    assert await found(begun) == anew
    assert await stored_reset_code(begun, anew) is None


async def test_saving_failures_counts_the_version_up(begun):
    await save(begun, replace(WIZARD, failures=1))
    assert await found(begun) == replace(WIZARD, failures=1, version=1)


async def test_a_confirmation_is_stored_with_the_reset_code(begun):
    await save(begun, CONFIRMED, RESET)
    assert await found(begun) == replace(CONFIRMED, version=1)
    assert await stored_reset_code(begun) == RESET


async def test_the_reset_code_of_another_enrollment_is_not_given(begun):
    await save(begun, CONFIRMED, RESET)
    assert await stored_reset_code(begun, replace(WIZARD, enrollment_id="enrollment-2")) is None


async def test_a_later_save_keeps_the_reset_code(begun):
    await save(begun, CONFIRMED, RESET)
    await save(begun, replace(CONFIRMED, version=1))
    assert await stored_reset_code(begun) == RESET


async def test_s6_a_rewrapped_secret_is_saved_with_its_reset_code(begun):
    await save(begun, CONFIRMED, RESET)
    rewrapped = replace(CONFIRMED, sealed_secret=SealedSecret("key-2", b"anew"), version=1)
    resealed = replace(RESET, sealed_key=SealedSecret("key-2", b"sealed anew"))
    await save(begun, rewrapped, resealed)
    assert await found(begun) == replace(rewrapped, version=2)
    assert await stored_reset_code(begun) == resealed


async def test_saving_what_has_changed_meanwhile_is_refused(begun):
    await save(begun, replace(WIZARD, failures=1))
    with pytest.raises(ConflictError):
        await save(begun, CONFIRMED, RESET)
    assert await found(begun) == replace(WIZARD, failures=1, version=1)


async def test_saving_a_wizard_that_was_replaced_is_refused(begun):
    await put(begun, replace(WIZARD, enrollment_id="enrollment-2"))
    with pytest.raises(ConflictError):
        await save(begun, CONFIRMED, RESET)


@pytest.fixture
async def two_sessions(begun):
    await put(begun, replace(WIZARD, session_hash=SessionHash("b" * 32)))
    await put(begun, replace(WIZARD, user_id=UserId("bob")))
    return begun


async def test_a_users_wizards_are_found_by_their_sessions(two_sessions):
    async with two_sessions.snapshot() as records:
        found = await records.pending.sessions(*KEY[:2])
    assert sorted(found) == ["a" * 32, "b" * 32]


async def test_removing_one_sessions_wizard_leaves_the_others(two_sessions):
    async with two_sessions.transaction() as records:
        assert await records.pending.remove(*KEY) == 1
    assert await found(two_sessions) is None
    assert await found(two_sessions, (*KEY[:2], SessionHash("b" * 32))) is not None


async def test_removing_a_users_wizards_leaves_other_users(two_sessions):
    async with two_sessions.transaction() as records:
        assert await records.pending.remove(*KEY[:2]) == 2
    assert await found(two_sessions, (KEY[0], UserId("bob"), KEY[2])) is not None


@pytest.mark.parametrize(
    ("after_expiry", "gone"), [(timedelta(microseconds=-1), False), (timedelta(), True)]
)
async def test_what_has_expired_is_purged(begun, after_expiry, gone):
    async with begun.transaction() as records:
        await records.pending.purge(WIZARD.expires_at + after_expiry, 10)
    assert (await found(begun) is None) is gone
