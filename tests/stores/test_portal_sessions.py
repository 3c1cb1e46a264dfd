"""What `PortalSessions` promises, on a fake and on servers (S20, S25)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from redis.exceptions import RedisError
from stepup_tests.people import administrator, person
from stepup_tests.portal import portal_session
from stepup_tests.rotation import LateRing, rotated_ring

from stepup.domain.actor import AccountType, Device
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.portal import IDLE_LIFETIME, LINK_LIFETIME, Locale, PortalPage, TimeZone
from stepup.domain.totp import Label
from stepup.keys.ring import KeyRing
from stepup.stores.redis import RedisPortalSessions, portal_sessions
from stepup.stores.redis.authentic_values import AuthenticValues

NOON = datetime(2026, 3, 2, 12, 0, 0, 123457, tzinfo=UTC)
KEYS = KeyRing("k-1", {"k-1": bytes(32)})
TOKEN, OTHER_TOKEN = "t" * 43, "u" * 43
SECOND = timedelta(seconds=1)

SESSION = portal_session(NOON)
FULL = portal_session(
    NOON,
    actor=administrator(
        account_type=AccountType.SAML_GROUP, client=Device("192.0.2.7", "Browser/1 (X11)")
    ),
    page=PortalPage.CHALLENGE,
    challenge_id=UUID("6ad62e4a-0a38-4af0-bc4c-22e8b34a9ce2"),
    locale=Locale("de-CH"),
    time_zone=TimeZone("Europe/Zurich"),
    account_name=Label("Zoë \N{CAT FACE}"),
)


@pytest.fixture
def sessions(client):
    return RedisPortalSessions(client, KEYS)


async def the_key(client):
    [key] = await client.keys("*")
    return key.decode()


@pytest.mark.parametrize("session", [SESSION, FULL], ids=["bare", "full"])
async def test_a_session_is_found_exactly_as_it_was_put(sessions, session):
    await sessions.put(TOKEN, session)
    assert await sessions.find(TOKEN) == session
    assert await sessions.find(OTHER_TOKEN) is None


async def test_s20_a_link_opens_once(sessions):
    await sessions.put_link(TOKEN, FULL)
    assert await sessions.take_link(OTHER_TOKEN) is None
    assert await sessions.take_link(TOKEN) == FULL
    assert await sessions.take_link(TOKEN) is None


@pytest.mark.race
async def test_s20_of_parallel_redemptions_exactly_one_gets_the_session(sessions):
    await sessions.put_link(TOKEN, SESSION)
    found = await asyncio.gather(*(sessions.take_link(TOKEN) for _ in range(20)))
    assert [session for session in found if session is not None] == [SESSION]


async def test_a_token_is_no_id_and_an_id_no_token(sessions):
    await sessions.put_link(TOKEN, SESSION)
    assert await sessions.find(TOKEN) is None
    await sessions.put(OTHER_TOKEN, SESSION)
    assert await sessions.take_link(OTHER_TOKEN) is None


async def test_s20_a_link_is_gone_after_two_minutes(fake, advance):
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put_link(TOKEN, SESSION)
    advance(LINK_LIFETIME + SECOND)
    assert await sessions.take_link(TOKEN) is None


async def test_s20_a_session_is_gone_after_15_minutes_without_use(fake, advance):
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put(TOKEN, SESSION)
    advance(IDLE_LIFETIME - SECOND)
    assert await sessions.find(TOKEN) == SESSION
    advance(2 * SECOND)
    assert await sessions.find(TOKEN) is None


async def test_an_extended_session_is_kept_from_then_on(fake, advance):
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put(TOKEN, SESSION)
    advance(IDLE_LIFETIME - SECOND)
    later = replace(SESSION, idle_until=SESSION.idle_until + IDLE_LIFETIME)
    await sessions.extend(TOKEN, later)
    advance(IDLE_LIFETIME - SECOND)
    assert await sessions.find(TOKEN) == later


async def test_s20_use_does_not_bring_back_a_session_that_was_removed(sessions):
    await sessions.put(TOKEN, SESSION)
    await sessions.remove(TOKEN)
    await sessions.extend(TOKEN, SESSION)
    assert await sessions.find(TOKEN) is None
    await sessions.remove(TOKEN)


async def test_s20_who_reads_the_store_finds_neither_secrets_nor_the_person(fake):
    sessions = RedisPortalSessions(fake, KEYS)
    session = replace(FULL, actor=person("alice-4711", session="console-session"))
    await sessions.put_link(TOKEN, session)
    await sessions.put(OTHER_TOKEN, session)
    keys = await fake.keys("*")
    stored = b"\n".join([*keys, *(await fake.mget(keys))])
    for secret in (TOKEN, OTHER_TOKEN, "alice-4711", "console-session", "console.example"):
        assert secret.encode() not in stored


async def test_s25_a_value_with_any_byte_changed_opens_nothing(fake):
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put(TOKEN, SESSION)
    key = await the_key(fake)
    value = await fake.get(key)
    for place in range(len(value)):
        forged = bytearray(value)
        forged[place] ^= 1
        await fake.set(key, bytes(forged))
        assert await sessions.find(TOKEN) is None, place


async def test_s25_a_forged_value_opens_nothing(client, sessions):
    """Who writes to Redis knows how values are made and chose the token, but has no key."""
    forger = RedisPortalSessions(client, KeyRing("k-1", {"k-1": bytes([1] * 32)}))
    await forger.put(TOKEN, FULL)
    assert await forger.find(TOKEN) == FULL
    assert await sessions.find(TOKEN) is None
    await forger.put_link(TOKEN, FULL)
    assert await sessions.take_link(TOKEN) is None


async def test_s25_a_value_under_another_key_opens_nothing(client, sessions):
    await sessions.put(TOKEN, SESSION)
    key = await the_key(client)
    value = await client.get(key)
    await sessions.put(OTHER_TOKEN, FULL)
    await client.set(key, await client.get(next(k for k in await keys_of(client) if k != key)))
    assert await sessions.find(TOKEN) is None
    # A session as a link: the same secret, another kind of key.
    await client.set("l" + key[1:], value)
    assert await sessions.take_link(TOKEN) is None


async def keys_of(client):
    return [key.decode() for key in await client.keys("*")]


async def test_s25_sessions_outlive_a_rotation_while_the_ring_has_their_key(fake):
    before, after = RedisPortalSessions(fake, LateRing()), RedisPortalSessions(fake, rotated_ring())
    await before.put(TOKEN, SESSION)
    assert await after.find(TOKEN) == SESSION
    await after.put(OTHER_TOKEN, SESSION)
    assert await before.find(OTHER_TOKEN) == SESSION


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"short",
        b"x" * 60,
    ],
)
async def test_a_payload_that_is_not_encrypted_opens_nothing(fake, payload):
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put(TOKEN, SESSION)
    key = await the_key(fake)
    await fake.set(key, AuthenticValues(KEYS).sign(key, (), payload))
    assert await sessions.find(TOKEN) is None


@pytest.mark.parametrize("place", [0, 1], ids=["the caller", "the device"])
async def test_fields_of_a_later_version_open_nothing(fake, monkeypatch, place):
    fields = portal_sessions._fields(FULL)
    if place == 0:
        fields[0] = None
    else:
        fields[1][-1] = ["192.0.2.7"]
    monkeypatch.setattr(portal_sessions, "_fields", lambda _: fields)
    sessions = RedisPortalSessions(fake, KEYS)
    await sessions.put(TOKEN, FULL)
    assert await sessions.find(TOKEN) is None


async def test_s17_a_redis_that_does_not_answer_is_an_error_and_no_ended_session(fake, monkeypatch):
    sessions = RedisPortalSessions(fake, KEYS)

    async def fail(*_, **__):
        raise RedisError

    for command in ("get", "getdel", "set", "delete"):
        monkeypatch.setattr(fake, command, fail)
    calls = [
        sessions.put_link(TOKEN, SESSION),
        sessions.take_link(TOKEN),
        sessions.put(TOKEN, SESSION),
        sessions.find(TOKEN),
        sessions.extend(TOKEN, SESSION),
        sessions.remove(TOKEN),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailableError):
            await call
