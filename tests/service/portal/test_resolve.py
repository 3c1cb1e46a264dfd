"""From the id of a portal session to the person: time, revocations, and stores that fail."""

from datetime import timedelta

import pytest
from stepup_tests.people import ACME, administrator, person
from stepup_tests.portal import portal_session

from stepup.domain.changes import SessionRevoked, UserRevoked
from stepup.domain.errors import PortalSessionError, StoreUnavailableError
from stepup.domain.portal import IDLE_LIFETIME
from stepup.service.portal.resolve import ResolvePortalSession
from stepup.service.step_up.revocation import Scope

ID = "s" * 43
SECOND = timedelta(seconds=1)


@pytest.fixture
async def put(world):
    async def put(**fields):
        session = portal_session(world.clock.now(), **fields)
        await world.portal_sessions.put(ID, session)
        return session

    return put


@pytest.fixture
def resolve(world):
    resolve = ResolvePortalSession(world.portal_sessions, world.database)

    async def now():
        return await resolve(ID, world.clock.now())

    return now


@pytest.fixture
def is_open(resolve):
    async def is_open():
        try:
            await resolve()
        except PortalSessionError:
            return False
        return True

    return is_open


async def test_an_id_opens_its_session(put, resolve):
    session = await put()
    assert await resolve() == session


async def test_an_unknown_id_opens_nothing(is_open):
    assert not await is_open()


async def test_s20_a_session_without_use_ends_after_15_minutes(world, put, is_open):
    await put()
    world.clock.advance(minutes=15)
    assert not await is_open()


async def test_s20_use_keeps_a_session_but_60_minutes_end_it(world, put, is_open):
    session = await put()
    for _ in range(5):
        world.clock.advance(minutes=11)
        assert await is_open()
    world.clock.advance(minutes=5)
    assert world.clock.now() == session.expires_at
    assert not await is_open()


async def test_s20_15_minutes_end_a_session_with_the_role_however_it_is_used(world, put, is_open):
    await put(actor=administrator())
    world.clock.advance(minutes=14)
    assert await is_open()
    world.clock.advance(minutes=1)
    assert not await is_open()


async def test_use_is_written_once_a_minute_at_most(world, put, resolve):
    await put()
    for _ in range(6):
        world.clock.advance(seconds=20)
        await resolve()
    assert world.portal_sessions.extensions == 2
    assert (await resolve()).idle_until == world.clock.now() + IDLE_LIFETIME


@pytest.mark.parametrize("scope", Scope)
async def test_s20_a_sign_out_ends_the_session_that_redis_still_has(
    world, worker, put, is_open, scope
):
    """S10: the next call finds the revocation in SQL, whatever Redis has."""
    actor = person()
    session = await put(actor=actor)
    world.clock.advance(seconds=1)
    await worker.revoke(actor, scope)
    assert not await is_open()
    await world.portal_sessions.put(ID, session)
    assert not await is_open()


async def test_s20_a_sign_out_of_another_session_ends_nothing(worker, put, is_open):
    await put(actor=person(session="desk"))
    await worker.revoke(person(session="phone"), Scope.SESSION)
    assert await is_open()


@pytest.mark.parametrize(
    ("change", "ends"),
    [
        (lambda actor, at: UserRevoked(ACME, actor.user_id, at), True),
        (lambda actor, at: UserRevoked(ACME, actor.user_id, at - SECOND), False),
        (lambda actor, at: SessionRevoked(ACME, actor.user_id, actor.session_hash, at), True),
    ],
    ids=["at its creation", "before its creation", "of its session"],
)
async def test_s10_a_revocation_counts_from_the_creation_of_the_session(
    world, put, is_open, change, ends
):
    session = await put()
    async with world.database.transaction(ACME) as records:
        await records.changes.announce(change(session.actor, session.created_at), world.clock.now())
    assert await is_open() is not ends


@pytest.mark.parametrize("store", ["redis", "sql"])
async def test_s17_a_store_that_does_not_answer_opens_nothing(world, put, resolve, store):
    await put()
    if store == "redis":
        world.portal_sessions.works = False
    else:
        world.database.reads = False
    with pytest.raises(StoreUnavailableError):
        await resolve()
