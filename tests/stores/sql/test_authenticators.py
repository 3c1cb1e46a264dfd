"""The promises of `Authenticators` and `ResetCodes` (S2, S3, S8)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.code_history import CodeHistory, ForgivableFailure, UsedCode
from stepup.domain.errors import ConflictError
from stepup.domain.instants import microseconds
from stepup.domain.throttle import Throttle
from stepup.domain.totp import StepMatch, time_step
from stepup.stores.sql import Limits
from stepup.stores.sql.columns import read_history
from stepup.stores.sql.engine import parse_url, write_engine

NOW = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
ALICE = Authenticator(
    tenant_id=TenantId("acme"),
    user_id=UserId("alice"),
    enrollment_id="enrollment-1",
    sealed_secret=SealedSecret("key-1", b"\x00sealed\xff"),
    activated_at=NOW,
    last_step=100,
    generation=3,
    enrolled_session=SessionHash("c" * 32),
)
DESK, PHONE = SessionHash("a" * 32), SessionHash("b" * 32)
KEY = (ALICE.tenant_id, ALICE.user_id)
RESET = ResetCodeRecord(
    *KEY, ALICE.enrollment_id, SealedSecret("key-1", b"\x00sealed\xff"), b"\x00digest\xff"
)


@pytest.fixture
async def enrolled(database):
    async with database.transaction() as records:
        await records.authenticators.add(ALICE)
        await records.reset_codes.add(RESET)
    return database


async def found(database):
    async with database.snapshot() as records:
        return await records.authenticators.find(*KEY)


async def found_reset_code(database):
    async with database.transaction() as records:
        return await records.reset_codes.find_for_update(*KEY)


async def saved(database, authenticator):
    async with database.transaction() as records:
        await records.authenticators.save(authenticator)


async def test_a_find_waits_for_no_transaction_that_has_locked_the_authenticator(enrolled):
    async with enrolled.transaction() as records:
        await records.authenticators.find_for_update(*KEY)
        assert await found(enrolled) == ALICE
        await records.authenticators.remove(ALICE)
        assert await records.authenticators.find(*KEY) is None
        assert await found(enrolled) == ALICE


async def test_s10_who_finds_none_waits_for_the_one_that_is_being_added(database):
    """A revocation and the completion of a first enrollment: either comes first."""

    async def find():
        async with database.transaction() as records:
            return await records.authenticators.find_for_update(*KEY)

    async with database.transaction() as records:
        assert await records.authenticators.find_for_update(*KEY) is None
        other = asyncio.create_task(find())
        await asyncio.wait([other], timeout=0.5)  # unless it waits, it has found none by then
        await records.authenticators.add(ALICE)
    assert await other == ALICE


@pytest.mark.parametrize("key", [("acme", "bob"), ("other", "alice")])
async def test_nobody_else_has_it(enrolled, key):
    async with enrolled.snapshot() as records:
        assert await records.authenticators.find(TenantId(key[0]), UserId(key[1])) is None


async def test_ids_that_look_alike_are_different_users(enrolled):
    for user_id in (UserId("Alice"), UserId("alice ")):
        async with enrolled.transaction() as records:
            await records.authenticators.add(replace(ALICE, user_id=user_id))
    assert await found(enrolled) == ALICE


async def test_a_second_authenticator_of_a_user_is_refused(enrolled):
    with pytest.raises(ConflictError):
        async with enrolled.transaction() as records:
            await records.authenticators.add(replace(ALICE, enrollment_id="enrollment-2"))
    assert await found(enrolled) == ALICE


async def test_an_added_authenticator_is_at_version_0(database):
    async with database.transaction() as records:
        await records.authenticators.add(replace(ALICE, version=7))
    assert (await found(database)).version == 0


async def test_a_saved_throttle_is_exact_to_the_microsecond(enrolled):
    recent = (NOW, NOW + timedelta(microseconds=1))
    throttle = Throttle(7, recent, NOW + timedelta(minutes=15, microseconds=1))
    await saved(enrolled, replace(ALICE, throttle=throttle))
    assert (await found(enrolled)).throttle == throttle


async def test_a_rewrapped_secret_is_saved(enrolled):
    sealed = SealedSecret("key-2", b"sealed anew")
    await saved(enrolled, replace(ALICE, sealed_secret=sealed))
    assert (await found(enrolled)).sealed_secret == sealed


async def test_saving_counts_the_version_up(enrolled):
    await saved(enrolled, replace(ALICE, last_step=101))
    assert await found(enrolled) == replace(ALICE, last_step=101, version=1)


async def test_saving_what_has_changed_meanwhile_is_refused(enrolled):
    await saved(enrolled, replace(ALICE, last_step=101))
    with pytest.raises(ConflictError):
        await saved(enrolled, replace(ALICE, last_step=102))
    assert (await found(enrolled)).last_step == 101


async def test_saving_another_enrollment_is_refused(enrolled):
    with pytest.raises(ConflictError):
        await saved(enrolled, replace(ALICE, enrollment_id="enrollment-2"))


async def test_a_saved_step_is_never_lowered(enrolled):
    with pytest.raises(ConflictError):
        await saved(enrolled, replace(ALICE, last_step=99))
    assert (await found(enrolled)).last_step == 100


async def test_removing_takes_the_reset_code_along(enrolled):
    async with enrolled.transaction() as records:
        await records.authenticators.remove(ALICE)
    assert await found(enrolled) is None
    assert await found_reset_code(enrolled) is None


async def test_removing_what_has_changed_meanwhile_is_refused(enrolled):
    await saved(enrolled, replace(ALICE, last_step=101))
    with pytest.raises(ConflictError):
        async with enrolled.transaction() as records:
            await records.authenticators.remove(ALICE)
    assert await found_reset_code(enrolled) == RESET


async def test_an_authenticator_is_replaced_in_one_transaction(enrolled):
    new = replace(ALICE, enrollment_id="enrollment-2", last_step=7)
    async with enrolled.transaction() as records:
        await records.authenticators.remove(ALICE)
        await records.reset_codes.add(replace(RESET, enrollment_id="enrollment-2"))
        await records.authenticators.add(new)
    assert await found(enrolled) == new
    assert (await found_reset_code(enrolled)).enrollment_id == "enrollment-2"


async def test_a_second_reset_code_is_refused(enrolled):
    with pytest.raises(ConflictError):
        async with enrolled.transaction() as records:
            await records.reset_codes.add(replace(RESET, digest=b"other"))


async def test_a_reset_code_without_an_authenticator_is_refused(database):
    with pytest.raises(ConflictError):
        async with database.transaction() as records:
            await records.reset_codes.add(RESET)
    assert await found_reset_code(database) is None


async def test_s8_a_reset_code_is_replaced_as_a_whole(enrolled):
    new = replace(
        RESET,
        digest=b"other",
        sealed_key=SealedSecret("key-2", b"more"),
        sessions=RESET.sessions.failed(DESK, NOW),
    )
    async with enrolled.transaction() as records:
        await records.reset_codes.replace(new)
    assert await found_reset_code(enrolled) == replace(new, version=1)


async def test_s8_what_was_read_of_a_reset_code_is_not_saved_into_its_successor(enrolled):
    async with enrolled.transaction() as records:
        await records.reset_codes.replace(replace(RESET, digest=b"other"))
    with pytest.raises(ConflictError):
        async with enrolled.transaction() as records:
            await records.reset_codes.save(RESET)


async def test_an_authenticator_without_a_reset_code_gets_one(database):
    async with database.transaction() as records:
        await records.authenticators.add(ALICE)
    assert not await has_reset_code(database)
    async with database.transaction() as records:
        await records.reset_codes.replace(RESET)
    assert await found_reset_code(database) == RESET


async def test_a_reset_code_exists_for_its_user_alone(enrolled):
    assert await has_reset_code(enrolled)
    assert not await has_reset_code(enrolled, user_id=UserId("bob"))
    assert not await has_reset_code(enrolled, tenant_id=TenantId("umbrella"))


async def has_reset_code(database, tenant_id=ALICE.tenant_id, user_id=ALICE.user_id):
    async with database.snapshot() as records:
        return await records.reset_codes.exists(tenant_id, user_id)


async def test_a_reset_codes_throttle_is_its_own(enrolled):
    failed = replace(RESET, sessions=RESET.sessions.failed(DESK, NOW))
    async with enrolled.transaction() as records:
        await records.reset_codes.save(failed)
    assert await found_reset_code(enrolled) == replace(failed, version=1)
    assert not (await found(enrolled)).sessions.failed_sessions


async def test_s4_failed_and_spent_sessions_are_exact_to_the_microsecond(enrolled):
    sessions = ALICE.sessions
    for number in range(10):
        sessions = sessions.failed(DESK, NOW + timedelta(microseconds=number))
    sessions = sessions.failed(PHONE, NOW)
    changed = replace(ALICE, sessions=sessions, refused_at=NOW + timedelta(microseconds=1))
    await saved(enrolled, changed)
    assert await found(enrolled) == replace(changed, version=1)


async def test_s22_the_history_of_codes_is_exact_to_the_microsecond(enrolled):
    history = CodeHistory(
        (UsedCode(PHONE, 99, NOW - timedelta(minutes=1)), UsedCode(DESK, 100, NOW)),
        (ForgivableFailure(DESK, NOW + timedelta(microseconds=1), 101),),
        {"late": 101, "repeated": 102},
    )
    await saved(enrolled, replace(ALICE, history=history))
    assert await found(enrolled) == replace(ALICE, history=history, version=1)


def test_s22_a_failure_that_was_stored_without_a_step_counts_as_an_early_one():
    stored = {"used": [], "forgivable": [[DESK, microseconds(NOW)]], "noted": {}}
    failure = ForgivableFailure(DESK, NOW, time_step(NOW) + 1)
    assert read_history(stored).forgivable == (failure,)


async def run(url, *statements):
    engine = write_engine(parse_url(url), Limits())
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()


async def test_s22_what_an_older_release_has_written_has_no_history(enrolled, url):
    await run(url, "UPDATE authenticators SET code_history = NULL")
    assert await found(enrolled) == ALICE


async def test_what_an_older_release_has_written_is_a_first_authenticator(enrolled, url):
    await run(url, "UPDATE authenticators SET generation = NULL, enrolled_session = NULL")
    assert await found(enrolled) == replace(ALICE, generation=1, enrolled_session=None)


async def test_s4_what_an_older_release_has_written_has_no_failed_session(enrolled, url):
    await run(
        url,
        "UPDATE authenticators SET failed_sessions = NULL",
        "UPDATE reset_codes SET failed_sessions = NULL",
    )
    assert await found(enrolled) == ALICE
    assert await found_reset_code(enrolled) == RESET


async def test_s8_a_reset_codes_rewrapped_key_is_saved_and_its_digest_stays(enrolled):
    resealed = replace(RESET, sealed_key=SealedSecret("key-2", b"sealed anew"))
    async with enrolled.transaction() as records:
        await records.reset_codes.save(replace(resealed, digest=b"other"))
    assert await found_reset_code(enrolled) == replace(resealed, version=1)


async def test_saving_a_reset_code_that_has_changed_meanwhile_is_refused(enrolled):
    async with enrolled.transaction() as records:
        await records.reset_codes.save(RESET)
    with pytest.raises(ConflictError):
        async with enrolled.transaction() as records:
            await records.reset_codes.save(RESET)


# S3: however many guesses come at once, five are evaluated before the lock.


async def locking_guess(database, _read):
    async with database.transaction() as records:
        authenticator = await records.authenticators.find_for_update(*KEY)
        if authenticator.refusal(DESK, NOW):
            return 0
        rejected, _ = authenticator.attempted(StepMatch(None), DESK, NOW)
        await records.authenticators.save(rejected)
    return 1


async def racy_guess(database, read):
    """Decides on what was read before, and overwrites what came between."""
    rejected, _ = (await found(database)).attempted(StepMatch(None), DESK, NOW)
    await read.wait()
    async with database.transaction() as records:
        stored = await records.authenticators.find_for_update(*KEY)
        await records.authenticators.save(replace(rejected, version=stored.version))
    return 1


async def evaluations(database, guess):
    read = asyncio.Barrier(4)
    return sum(await asyncio.gather(*(guess(database, read) for _ in range(12))))


@pytest.mark.race
async def test_parallel_guesses_get_no_more_evaluations_than_the_budget(enrolled):
    assert await evaluations(enrolled, locking_guess) == 5
    assert (await found(enrolled)).throttle.in_a_row == 5


@pytest.mark.race
async def test_the_race_is_one_that_a_racy_store_loses(enrolled):
    assert await evaluations(enrolled, racy_guess) > 5


@pytest.mark.race
async def test_of_parallel_saves_of_one_reading_one_wins(enrolled):
    read = await found(enrolled)
    saves = (saved(enrolled, replace(read, last_step=200)) for _ in range(8))
    outcomes = await asyncio.gather(*saves, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 7


@pytest.mark.race
async def test_of_parallel_enrollments_one_comes_into_force(database):
    async def add(number):
        async with database.transaction() as records:
            await records.authenticators.add(replace(ALICE, enrollment_id=f"enrollment-{number}"))

    outcomes = await asyncio.gather(*(add(n) for n in range(8)), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert (await found(database)).enrollment_id == f"enrollment-{outcomes.index(None)}"
