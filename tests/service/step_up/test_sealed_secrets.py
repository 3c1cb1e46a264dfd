"""What becomes of secrets that somebody moved or altered in the database: nothing opens."""

import pytest
from stepup_tests.metrics import metric
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY
from structlog.testing import capture_logs

from stepup.domain.decision import Reason
from stepup.service.ports import SealBrokenError

ALICE = person()
MALLORY = person("mallory")
UNREADABLE = "stepup_sealed_secret_unreadable_total"


@pytest.fixture
async def apps(worker):
    await worker.select(OSQUERY)
    return {person.user_id: await worker.enrol(person) for person in (ALICE, MALLORY)}


@pytest.fixture
def swap(world):
    """Swap columns of the two users."""

    def swap(table, *columns):
        sides = {
            user: world.sql(
                f"SELECT {', '.join(columns)} FROM {table} WHERE user_id = ?",  # noqa: S608
                user,
            )[0]
            for user in ("alice", "mallory")
        }
        places = ", ".join(f"{column} = ?" for column in columns)
        for user, other in (("alice", "mallory"), ("mallory", "alice")):
            world.sql(f"UPDATE {table} SET {places} WHERE user_id = ?", *sides[other], user)  # noqa: S608

    return swap


async def refused(call, user, enrollment_id):
    """It is an error and no answer, and an alert that says which row it is."""
    alerts = metric(UNREADABLE)
    with capture_logs() as lines, pytest.raises(SealBrokenError):
        await call
    assert metric(UNREADABLE) == alerts + 1
    assert [
        (line["event"], line["log_level"], line["tenant"], line["user"], line["enrollment"])
        for line in lines
    ] == [("sealed_secret_unreadable", "error", "acme", user, enrollment_id)]


@pytest.mark.parametrize("columns", [("ciphertext",), ("key_id", "ciphertext")])
async def test_s6_swapped_secrets_verify_nothing(world, worker, apps, swap, columns):
    """Neither the other's code, nor one's own; no attempt is counted, nobody is elevated."""
    swap("authenticators", *columns)
    before = await world.state()
    for actor in (ALICE, MALLORY):
        own = apps[actor.user_id]
        for app in apps.values():
            code = app.code(world.clock.now())
            await refused(worker.verify(actor, code), actor.user_id, own.enrollment_id)
        assert (await worker.check(actor)).verdict.reason is Reason.NOT_ELEVATED
    assert await world.state() == before


async def test_s6_secrets_swapped_with_their_enrollments_verify_nothing(worker, clock, apps, swap):
    swap("authenticators", "enrollment_id", "key_id", "ciphertext")
    code = apps["mallory"].code(clock.now())
    await refused(worker.verify(ALICE, code), "alice", apps["mallory"].enrollment_id)


async def test_s8_swapped_reset_codes_reset_nothing(world, worker, apps, swap):
    swap("reset_codes", "key_id", "ciphertext", "digest")
    before = await world.state()
    for app in apps.values():
        call = worker.reset(ALICE, app.reset_code)
        await refused(call, "alice", apps["alice"].enrollment_id)
    assert await world.state() == before


async def test_s8_a_digest_that_was_moved_alone_is_that_of_no_code(worker, apps, swap):
    swap("reset_codes", "digest")
    for app in apps.values():
        assert not (await worker.reset(ALICE, app.reset_code)).is_accepted
