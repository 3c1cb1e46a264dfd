"""A portal session from its creation to its end, with its events (S20)."""

import asyncio
import json
import re
from datetime import timedelta
from uuid import UUID

import pytest
from stepup_tests.people import CALLER, WEB, administrator, person
from stepup_tests.portal import RETURN_URL, new_session
from stepup_tests.worker import details_of

from stepup.domain.actor import Device
from stepup.domain.audit import EventKind
from stepup.domain.errors import (
    NoPortalError,
    PortalSessionError,
    RoleRequiredError,
    StoreUnavailableError,
)
from stepup.domain.portal import LINK_LIFETIME, Locale, PortalPage, TimeZone
from stepup.domain.totp import Label

CHALLENGE_ID = UUID("6ad62e4a-0a38-4af0-bc4c-22e8b34a9ce2")


async def test_a_link_opens_the_session_of_the_actor_at_the_page(worker):
    actor = person()
    new = new_session(
        PortalPage.CHALLENGE,
        challenge_id=CHALLENGE_ID,
        locale=Locale("de-CH"),
        time_zone=TimeZone("Europe/Zurich"),
        account_name=Label("Alice"),
    )
    link = await worker.open_portal(actor, new, title="Console")
    assert link.expires_at == worker.clock.now() + LINK_LIFETIME
    _, session = await worker.redeem(link)
    assert (session.opened_by, session.opened_by_title, session.actor) == (CALLER, "Console", actor)
    assert {
        name: getattr(session, name)
        for name in ("page", "challenge_id", "return_url", "locale", "time_zone", "account_name")
    } == {name: getattr(new, name) for name in new.__dataclass_fields__}


async def test_s20_an_id_resolves_to_its_session_until_it_ends(worker):
    session_id, session = await worker.redeem(await worker.open_portal(person()))
    assert await worker.resolve_portal(session_id) == session
    await worker.leave_portal(session_id, session)
    with pytest.raises(PortalSessionError):
        await worker.resolve_portal(session_id)


async def test_s20_token_and_id_have_256_bits_and_are_never_the_same(worker):
    links = [await worker.open_portal(person()) for _ in range(3)]
    tokens = [worker.token_of(link) for link in links]
    ids = [(await worker.redeem(link))[0] for link in links]
    assert len({*tokens, *ids}) == 6
    assert all(re.fullmatch("[A-Za-z0-9_-]{43}", secret) for secret in [*tokens, *ids])


async def test_s20_a_link_opens_once(worker):
    link = await worker.open_portal(person())
    await worker.redeem(link)
    with pytest.raises(PortalSessionError):
        await worker.redeem(link)


@pytest.mark.race
async def test_s20_of_parallel_openings_exactly_one_gets_a_session(worker):
    link = await worker.open_portal(person())
    opened = await asyncio.gather(*(worker.redeem(link) for _ in range(10)), return_exceptions=True)
    refused = [each for each in opened if isinstance(each, PortalSessionError)]
    assert len(refused) == 9


async def test_s20_a_link_opens_nothing_after_two_minutes_also_if_redis_keeps_it(worker):
    """The clock of the fake Redis stands still: it still has the link."""
    link = await worker.open_portal(person())
    worker.clock.advance(minutes=2)
    with pytest.raises(PortalSessionError):
        await worker.redeem(link)


async def test_s20_an_unknown_token_opens_nothing(worker):
    with pytest.raises(PortalSessionError):
        await worker.redeem_token("t" * 43)


async def test_s20_a_sign_out_ends_a_link(worker):
    link = await worker.open_portal(person())
    await worker.revoke(person())
    with pytest.raises(PortalSessionError):
        await worker.redeem(link)


async def test_s20_a_forgotten_user_has_no_portal_session(world, worker):
    session_id, session = await worker.redeem(await worker.open_portal(person("bob")))
    link = await worker.open_portal(person("bob"))
    root = administrator()
    await worker.wizard(root)
    await worker.forget(root, "bob")
    await world.portal_sessions.put(session_id, session)
    with pytest.raises(PortalSessionError):
        await worker.resolve_portal(session_id)
    with pytest.raises(PortalSessionError):
        await worker.redeem(link)


async def test_s20_an_administrator_who_loses_the_role_loses_the_page(world, worker):
    """The backend revokes the elevations of a demoted administrator."""
    actor = administrator()
    new = new_session(PortalPage.POLICY)
    session_id, session = await worker.redeem(await worker.open_portal(actor, new))
    await worker.revoke(actor)
    await world.portal_sessions.put(session_id, session)
    with pytest.raises(PortalSessionError):
        await worker.resolve_portal(session_id)


@pytest.mark.parametrize("page", [page for page in PortalPage if page.needs_role])
async def test_s20_a_page_for_administrators_needs_the_role(worker, page):
    with pytest.raises(RoleRequiredError):
        await worker.open_portal(person(), new_session(page))
    assert await worker.open_portal(administrator(), new_session(page))


async def test_without_an_address_of_the_portal_no_page_opens(world):
    worker = await world.worker(portal=None)
    with pytest.raises(NoPortalError, match=r"portal\.public_url"):
        await worker.open_portal(person())
    assert await worker.events() == []


async def test_the_link_is_at_the_address_of_the_portal(worker):
    link = await worker.open_portal(person())
    assert link.url == f"https://mfa.example/open/{worker.token_of(link)}"
    assert worker.token_of(link) not in repr(link)


@pytest.mark.parametrize("device", [None, Device("192.0.2.7", "Firefox")])
async def test_the_device_of_the_browser_replaces_that_of_the_backend(worker, device):
    actor = person(client=Device("198.51.100.1", "Backend"))
    _, session = await worker.redeem(await worker.open_portal(actor), device)
    assert session.actor.client == (device or actor.client)


async def test_every_step_is_on_record_without_token_and_url(worker):
    """S11, S13"""
    actor = person()
    link = await worker.open_portal(actor)
    session_id, session = await worker.redeem(link)
    await worker.leave_portal(session_id, session)
    facts = {"page": "account", "challenge_id": None, "return_origin": "https://console.example"}
    opened_by = {"opened_by": CALLER}
    events = await worker.events()
    assert [(event.kind, event.caller, event.details) for event in events] == [
        (EventKind.PORTAL_SESSION_CREATED, CALLER, details_of(actor, **facts)),
        (EventKind.PORTAL_SESSION_OPENED, WEB, details_of(actor, **facts, **opened_by)),
        (EventKind.PORTAL_SESSION_ENDED, WEB, details_of(actor, **facts, **opened_by)),
    ]
    assert {event.actor_user_id for event in events} == {actor.user_id}
    texts = json.dumps([dict(event.details) for event in events])
    for secret in (worker.token_of(link), session_id, RETURN_URL):
        assert secret not in texts


async def test_s13_what_cannot_be_recorded_opens_nothing(world, worker):
    world.database.audit_trail_takes_events = False
    with pytest.raises(StoreUnavailableError):
        await worker.open_portal(person())
    assert await world.redis.keys("l*") == []
    world.database.audit_trail_takes_events = True
    link = await worker.open_portal(person())
    world.database.audit_trail_takes_events = False
    with pytest.raises(StoreUnavailableError):
        await worker.redeem(link)
    assert await world.redis.keys("p*") == []


async def test_s13_an_end_that_cannot_be_recorded_ends_nothing(world, worker):
    session_id, session = await worker.redeem(await worker.open_portal(person()))
    world.database.audit_trail_takes_events = False
    with pytest.raises(StoreUnavailableError):
        await worker.leave_portal(session_id, session)
    assert await worker.resolve_portal(session_id) == session


async def test_s17_without_redis_no_page_opens(world, worker):
    link = await worker.open_portal(person())
    world.portal_sessions.works = False
    with pytest.raises(StoreUnavailableError):
        await worker.open_portal(person())
    with pytest.raises(StoreUnavailableError):
        await worker.redeem(link)


async def test_s20_use_of_a_session_does_not_outlive_its_link_or_its_end(worker):
    """The 60 minutes count from the creation of the link, and not from its opening."""
    link = await worker.open_portal(person())
    worker.clock.advance(seconds=119)
    _, session = await worker.redeem(link)
    assert session.expires_at == worker.clock.now() + timedelta(minutes=60, seconds=-119)
