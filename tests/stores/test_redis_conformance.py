"""What `Elevations` and `RecordedOutcomes` promise, on a fake and on servers (S9, S10)."""

import asyncio
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from stepup_tests.rotation import LateRing, rotated_ring

from stepup.domain.actor import Actor, SessionHash, SessionId, TenantId, UserId
from stepup.domain.elevation import LIFETIME, Elevation, Outcome, Verification
from stepup.domain.errors import InvalidFieldError, RequestUnderWayError, StoreUnavailableError
from stepup.keys.ring import KeyRing
from stepup.service.ports import RequestKey
from stepup.stores.redis import RedisElevations, RedisRecordedOutcomes
from stepup.stores.redis.authentic_values import AuthenticValues, elevation_fields, read_elevation
from stepup.stores.redis.keyspace import digest as keyspace_digest
from stepup.stores.redis.keyspace import elevation_key, outcome_key, revocation_key

NOON = datetime(2026, 3, 2, 12, 0, 0, 123457, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
FINGERPRINT = bytes(range(32))
KEYS = KeyRing("k-1", {"k-1": bytes(32)})
ENROLLMENT = "2f9cc1e0-0a33-48b5-87ef-19863887c6d4"

ids = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
instants = st.datetimes(timezones=st.just(UTC))


@pytest.fixture
def elevations(client):
    return RedisElevations(client, KEYS)


@pytest.fixture
def outcomes(client):
    return RedisRecordedOutcomes(client, KEYS)


async def acknowledged(call, *arguments):
    """Repeat a call of a store that exceeds its deadline, as it may on a busy machine."""
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailableError):
                return await call(*arguments)


def an_elevation(tenant="acme", user="ann", session="s-1", verified_at=NOON):
    actor = Actor(TenantId(tenant), UserId(user), SessionId(session))
    return Elevation(
        actor.tenant_id,
        actor.user_id,
        actor.session_hash,
        enrollment_id=ENROLLMENT,
        verified_at=verified_at,
        expires_at=verified_at + LIFETIME,
    )


def address(elevation):
    return elevation.tenant_id, elevation.user_id, elevation.session_hash


def a_request(tenant="acme", user="ann", request_id=None):
    return RequestKey(TenantId(tenant), UserId(user), request_id or uuid4())


def verified(elevation=None):
    return Verification(Outcome.VERIFIED, elevation or an_elevation())


A_LATE_CODE = Verification(Outcome.REJECTED, next_code_after=timedelta(seconds=12))


async def test_s17_every_server_takes_a_write_that_is_gone_soon(elevations, client):
    await elevations.check_writes()
    assert 0 < await client.ttl("c-probe-0") <= 5


async def test_an_elevation_is_found_exactly_as_it_was_put(elevations):
    elevation = an_elevation()
    await elevations.replace(elevation)
    assert await elevations.find(*address(elevation)) == elevation


@pytest.mark.parametrize(
    "other",
    [an_elevation(tenant="other"), an_elevation(user="other"), an_elevation(session="other")],
    ids=["tenant", "user", "session"],
)
async def test_an_elevation_is_no_one_elses(elevations, other):
    await elevations.replace(an_elevation())
    assert await elevations.find(*address(other)) is None


async def test_ids_that_read_alike_when_joined_are_apart(elevations):
    one = an_elevation(tenant="a:{b}", user="c")
    other = an_elevation(tenant="a", user=":{b}c")
    await elevations.replace(one)
    await elevations.revoke_user(other.tenant_id, other.user_id, NOON)
    assert await elevations.find(other.tenant_id, other.user_id, one.session_hash) is None
    assert await elevations.find(*address(one)) == one


async def test_a_new_elevation_replaces_the_sessions_earlier_one(elevations):
    earlier, later = an_elevation(), an_elevation(verified_at=NOON + 60 * SECOND)
    await elevations.replace(earlier)
    await elevations.replace(later)
    assert await elevations.find(*address(earlier)) == later


async def test_sessions_of_one_user_are_elevated_each_for_itself(elevations):
    one, other = an_elevation(session="1"), an_elevation(session="2")
    await elevations.replace(one)
    await elevations.replace(other)
    await elevations.revoke_session(*address(one))
    assert await elevations.find(*address(one)) is None
    assert await elevations.find(*address(other)) == other


async def test_an_elevation_is_kept_for_15_minutes(client, elevations):
    elevation = an_elevation()
    await elevations.replace(elevation)
    left = await client.pttl(elevation_key(*address(elevation)))
    assert 890_000 < left <= 900_000


async def test_reading_never_lengthens_an_elevation(client, elevations):
    elevation = an_elevation()
    key = elevation_key(*address(elevation))
    await elevations.replace(elevation)
    await client.expire(key, 100)
    await elevations.find(*address(elevation))
    assert await client.pttl(key) <= 100_000


async def test_a_new_code_gives_15_minutes_anew(client, elevations):
    elevation = an_elevation()
    key = elevation_key(*address(elevation))
    await elevations.replace(elevation)
    await client.expire(key, 100)
    await elevations.replace(elevation)
    assert await client.pttl(key) > 890_000


async def test_an_elevation_is_gone_after_15_minutes_of_use(fake, advance):
    elevations, elevation = RedisElevations(fake, KEYS), an_elevation()
    await elevations.replace(elevation)
    for _ in range(9):
        advance(99 * SECOND)
        assert await elevations.find(*address(elevation)) == elevation
    advance(10 * SECOND)
    assert await elevations.find(*address(elevation)) is None


async def test_its_lifetime_counts_from_the_call_whatever_its_own_clock_says(fake, advance):
    elevations, elevation = (
        RedisElevations(fake, KEYS),
        an_elevation(verified_at=NOON + 900_000 * SECOND),
    )
    await elevations.replace(elevation)
    advance(LIFETIME + SECOND)
    assert await elevations.find(*address(elevation)) is None


@pytest.mark.parametrize(
    ("verified_at", "is_void"),
    [(NOON - MICROSECOND, True), (NOON, True), (NOON + MICROSECOND, False)],
    ids=["before", "at", "after"],
)
async def test_a_revocation_covers_what_was_verified_up_to_its_instant(
    elevations, verified_at, is_void
):
    elevation = an_elevation(verified_at=verified_at)
    await elevations.replace(elevation)
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON)
    assert (await elevations.find(*address(elevation)) is None) is is_void


async def test_a_revocation_covers_an_elevation_that_is_put_late(elevations):
    elevation = an_elevation()
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON)
    await elevations.replace(elevation)
    assert await elevations.find(*address(elevation)) is None


@pytest.mark.parametrize("other", [("acme", "bob"), ("other", "ann")], ids=["user", "tenant"])
async def test_a_revocation_is_of_one_user_of_one_tenant(elevations, other):
    elevation = an_elevation(*other)
    await elevations.replace(elevation)
    await elevations.revoke_user(TenantId("acme"), UserId("ann"), NOON)
    assert await elevations.find(*address(elevation)) == elevation


async def test_a_revocation_through_an_earlier_instant_takes_nothing_back(elevations):
    elevation = an_elevation()
    await elevations.replace(elevation)
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON)
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON - 60 * SECOND)
    assert await elevations.find(*address(elevation)) is None


@pytest.mark.race
async def test_of_parallel_revocations_the_latest_instant_stands(elevations):
    elevation = an_elevation(verified_at=NOON + 50 * MICROSECOND)
    await acknowledged(elevations.replace, elevation)
    ends = [NOON + n * MICROSECOND for n in (50, *range(0, 50, 5))]
    await asyncio.gather(
        *(
            acknowledged(elevations.revoke_user, elevation.tenant_id, elevation.user_id, end)
            for end in ends
        )
    )
    assert await acknowledged(elevations.find, *address(elevation)) is None


async def test_a_revocation_outlives_what_it_covers(fake, advance):
    elevations, elevation = RedisElevations(fake, KEYS), an_elevation()
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON)
    advance(60 * SECOND)  # a call that had been on its way all the time
    await elevations.replace(elevation)
    advance(LIFETIME - SECOND)
    assert await elevations.find(*address(elevation)) is None


async def test_a_revocation_through_an_earlier_instant_does_not_shorten_a_mark(fake, advance):
    elevations, elevation = RedisElevations(fake, KEYS), an_elevation()
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON)
    advance(300 * SECOND)
    await elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON - SECOND)
    await elevations.replace(elevation)
    advance(LIFETIME - SECOND)
    assert await elevations.find(*address(elevation)) is None


async def test_a_revocation_leaves_nothing_behind_for_ever(client, elevations):
    await elevations.revoke_user(TenantId("acme"), UserId("ann"), NOON)
    assert await client.ttl(revocation_key(TenantId("acme"), UserId("ann"))) > 900


@pytest.mark.parametrize(
    "owner",
    [an_elevation(tenant="other"), an_elevation(user="other"), an_elevation(session="other")],
    ids=["tenant", "user", "session"],
)
async def test_a_value_under_anothers_key_elevates_nobody(client, elevations, owner):
    """S9, S25"""
    mine = an_elevation()
    await elevations.replace(owner)
    value = await client.get(elevation_key(*address(owner)))
    await client.set(elevation_key(*address(mine)), value)
    assert await elevations.find(*address(mine)) is None


def signed(payload, elevation=None, keys=KEYS):
    owner = address(elevation or an_elevation())
    return AuthenticValues(keys).sign(elevation_key(*owner), owner, payload)


def fields(**changes):
    names = ("enrollment", "verified_at", "lifetime", "methods")
    values = dict(zip(names, elevation_fields(an_elevation()), strict=True)) | changes
    return orjson.dumps(list(values.values()))


def of_version_1():
    owner = keyspace_digest(*address(an_elevation()))
    microseconds = int(NOON.timestamp()) * 1_000_000 + NOON.microsecond
    return orjson.dumps([1, owner, ENROLLMENT, microseconds, 900_000_000, ["totp"]])


@pytest.mark.parametrize(
    "value",
    [
        of_version_1(),
        fields(),
        b"\x02" + bytes(16) + b"\x03k-1" + fields(),
        b"\x02" + bytes(16) + b"\x03k-2" + fields(),
        b"\x02" + bytes(16) + b"\x00" + fields(),
        b"\x02" + bytes(16) + b"\xff",
        b"\x02" + bytes(16) + b"\x02\xff\xff" + fields(),
        b"\x02" + bytes(16),
        b"\x02",
        signed(fields(), keys=KeyRing("k-1", {"k-1": bytes([1] * 32)})),
        signed(fields()).replace(b"900000000", b"990000000"),
        signed(fields()) + b" ",
        b"\x01" + signed(fields())[1:],
    ],
    ids=[
        "the format without a MAC",
        "no head",
        "a made-up MAC",
        "a key that the ring does not have",
        "no key",
        "a key id that does not end",
        "a key id that is no text",
        "no payload",
        "no MAC",
        "a MAC by another ring",
        "a longer life",
        "one more byte",
        "another version",
    ],
)
async def test_s25_a_forged_elevation_elevates_nobody(client, elevations, value):
    await client.set(elevation_key(*address(an_elevation())), value)
    assert await elevations.find(*address(an_elevation())) is None


async def test_s25_an_elevation_with_any_byte_changed_elevates_nobody(fake):
    elevations, mine = RedisElevations(fake, KEYS), an_elevation()
    key = elevation_key(*address(mine))
    await elevations.replace(mine)
    value = await fake.get(key)
    for place in range(len(value)):
        forged = bytearray(value)
        forged[place] ^= 1
        await fake.set(key, bytes(forged))
        assert await elevations.find(*address(mine)) is None, place


async def test_s25_a_mac_covers_the_ids_and_not_only_their_digest():
    """Two people whose ids have one digest would have one Redis key."""
    values, key = AuthenticValues(KEYS), "e{digest}"
    value = values.sign(key, ("acme", "ann", "s"), b"payload")
    assert values.open(key, ("acme", "ann", "s"), value) == b"payload"
    for other in (("other", "ann", "s"), ("acme", "bob", "s"), ("acme", "ann", "t")):
        assert values.open(key, other, value) is None
    assert values.open("o{digest}", ("acme", "ann", "s"), value) is None


async def test_s25_a_mac_of_a_key_that_was_added_just_now_counts():
    value = AuthenticValues(rotated_ring()).sign("key", ("acme",), b"payload")
    assert AuthenticValues(LateRing()).open("key", ("acme",), value) == b"payload"


@pytest.mark.parametrize("mark", [b"0", b"-1", b"0" * 18])
async def test_s25_no_mark_of_a_revocation_elevates_anybody(client, elevations, mark):
    await client.set(revocation_key(TenantId("acme"), UserId("ann")), mark)
    assert await elevations.find(*address(an_elevation())) is None


async def test_s25_elevations_outlive_a_rotation_while_the_ring_has_their_key(client):
    old = KeyRing("old", {"old": bytes(32)})
    rotated = KeyRing("new", {"old": bytes(32), "new": bytes([1] * 32)})
    retired = KeyRing("new", {"new": bytes([1] * 32)})
    mine, key = an_elevation(), a_request()
    await RedisElevations(client, old).replace(mine)
    await RedisRecordedOutcomes(client, old).record(key, FINGERPRINT, verified())
    assert await RedisElevations(client, rotated).find(*address(mine)) == mine
    assert await RedisRecordedOutcomes(client, rotated).claim(key, FINGERPRINT) == verified()
    assert await RedisElevations(client, retired).find(*address(mine)) is None
    assert await RedisRecordedOutcomes(client, retired).claim(key, FINGERPRINT) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\x00",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"[1]",
        fields(enrollment=7),
        fields(verified_at="0"),
        fields(verified_at=2**62),
        fields(lifetime=2**62),
        fields(lifetime=None),
        fields(methods=["telepathy"]),
        fields(methods=[[]]),
        fields(methods="totp"),
        fields(more=1),
    ],
)
async def test_what_cannot_be_read_elevates_nobody(client, elevations, value):
    """S9: a later version may have written it."""
    await client.set(elevation_key(*address(an_elevation())), signed(value))
    assert await elevations.find(*address(an_elevation())) is None


async def test_a_mark_that_cannot_be_read_voids_everything(client, elevations):
    elevation = an_elevation()
    await elevations.replace(elevation)
    await client.set(revocation_key(elevation.tenant_id, elevation.user_id), b"yesterday")
    assert await elevations.find(*address(elevation)) is None


async def test_a_key_of_another_type_is_a_store_that_does_not_work(client, elevations):
    await client.sadd(revocation_key(TenantId("acme"), UserId("ann")), "x")
    with pytest.raises(StoreUnavailableError):
        await elevations.revoke_user(TenantId("acme"), UserId("ann"), NOON)


@given(owner=st.tuples(ids, ids, ids), enrollment=ids, verified_at=instants, expires_at=instants)
def test_an_elevation_of_any_ids_and_times_reads_back(owner, enrollment, verified_at, expires_at):
    elevation = replace(
        an_elevation(*owner, verified_at), enrollment_id=enrollment, expires_at=expires_at
    )
    written = orjson.loads(orjson.dumps(elevation_fields(elevation)))
    assert read_elevation(written, *address(elevation)) == elevation


@given(tenant=ids, user=ids, session=ids)
def test_all_keys_of_a_user_are_short_and_lie_in_one_slot(tenant, user, session):
    elevation = an_elevation(tenant, user, session)
    keys = [
        elevation_key(*address(elevation)),
        revocation_key(elevation.tenant_id, elevation.user_id),
        outcome_key(a_request(tenant, user)),
    ]
    assert len({key_slot(key.encode()) for key in keys}) == 1
    assert max(map(len, keys)) <= 51


def test_no_key_shows_whom_it_is_about():
    """An id may be a person's name, and a server's monitor shows keys."""
    key = elevation_key(TenantId("acme"), UserId("ann"), SessionHash("0" * 32))
    assert "acme" not in key
    assert "ann" not in key


@pytest.mark.parametrize(
    "outcome",
    [
        Verification(Outcome.VERIFIED, an_elevation()),
        Verification(Outcome.REJECTED, attempts_remaining=4),
        Verification(Outcome.REJECTED, next_code_after=timedelta(seconds=30, microseconds=-1)),
        Verification(Outcome.THROTTLED, retry_after=timedelta(minutes=15, microseconds=-1)),
        Verification(Outcome.NOT_ENROLLED),
        Verification(Outcome.SUSPENDED),
    ],
    ids=lambda outcome: outcome.outcome.value,
)
async def test_a_later_claim_gets_the_outcome_exactly(outcomes, outcome):
    key = a_request()
    await outcomes.claim(key, FINGERPRINT)
    await outcomes.record(key, FINGERPRINT, outcome)
    assert await outcomes.claim(key, FINGERPRINT) == outcome
    assert await outcomes.claim(key, FINGERPRINT) == outcome


async def test_a_claim_while_the_other_is_under_way_is_not_answered(outcomes):
    key = a_request()
    await outcomes.claim(key, FINGERPRINT)
    with pytest.raises(RequestUnderWayError):
        await outcomes.claim(key, FINGERPRINT)


@pytest.mark.parametrize("is_recorded", [False, True])
async def test_a_request_id_is_good_for_one_request(outcomes, is_recorded):
    key = a_request()
    await outcomes.claim(key, FINGERPRINT)
    if is_recorded:
        await outcomes.record(key, FINGERPRINT, verified())
    with pytest.raises(InvalidFieldError) as raised:
        await outcomes.claim(key, b"\0" * 32)
    assert raised.value.field == "request_id"


@pytest.mark.parametrize("other", [("acme", "bob"), ("other", "ann")], ids=["user", "tenant"])
async def test_equal_request_ids_of_two_users_are_two_requests(outcomes, other):
    request_id = UUID(int=1)
    await outcomes.claim(a_request(request_id=request_id), FINGERPRINT)
    assert await outcomes.claim(a_request(*other, request_id), FINGERPRINT) is None


async def test_a_released_request_can_be_claimed_again(outcomes):
    key = a_request()
    await outcomes.claim(key, FINGERPRINT)
    await outcomes.release(key)
    assert await outcomes.claim(key, FINGERPRINT) is None


@pytest.mark.race
async def test_of_a_hundred_parallel_claims_one_wins(outcomes):
    key = a_request()
    answers = await asyncio.gather(
        *(outcomes.claim(key, FINGERPRINT) for _ in range(100)), return_exceptions=True
    )
    assert answers.count(None) == 1
    refused = [answer for answer in answers if answer is not None]
    assert any(isinstance(answer, RequestUnderWayError) for answer in refused)
    # On a busy machine some wait for a connection for too long.
    assert all(isinstance(each, RequestUnderWayError | StoreUnavailableError) for each in refused)


@pytest.mark.race
async def test_s25_of_parallel_claims_that_find_a_forged_outcome_one_wins(
    client, outcomes, monkeypatch
):
    key, all_have_read, set_value = a_request(), asyncio.Barrier(10), client.set
    await client.set(outcome_key(key), b"forged")

    async def set_together(*arguments, **options):
        found = await set_value(*arguments, **options)
        await all_have_read.wait()
        return found

    monkeypatch.setattr(client, "set", set_together)
    answers = await asyncio.gather(
        *(outcomes.claim(key, FINGERPRINT) for _ in range(10)), return_exceptions=True
    )
    assert answers.count(None) == 1
    assert sum(isinstance(answer, RequestUnderWayError) for answer in answers) == 9


async def test_s25_a_claim_gives_up_on_values_that_keep_changing(fake, monkeypatch):
    outcomes, key = RedisRecordedOutcomes(fake, KEYS), a_request()
    await fake.set(outcome_key(key), b"0")
    evaluate = fake.eval

    async def forge_anew_first(*arguments):
        await fake.incr(outcome_key(key))
        return await evaluate(*arguments)

    monkeypatch.setattr(fake, "eval", forge_anew_first)
    with pytest.raises(StoreUnavailableError):
        await outcomes.claim(key, FINGERPRINT)


async def test_a_claim_is_kept_for_a_minute(fake, advance):
    outcomes, key = RedisRecordedOutcomes(fake, KEYS), a_request()
    await outcomes.claim(key, FINGERPRINT)
    advance(59 * SECOND)
    with pytest.raises(RequestUnderWayError):
        await outcomes.claim(key, FINGERPRINT)
    advance(2 * SECOND)
    assert await outcomes.claim(key, FINGERPRINT) is None


async def test_an_outcome_is_kept_for_a_minute_from_its_recording(fake, advance):
    outcomes, key, outcome = RedisRecordedOutcomes(fake, KEYS), a_request(), verified()
    await outcomes.claim(key, FINGERPRINT)
    advance(50 * SECOND)
    await outcomes.record(key, FINGERPRINT, outcome)
    advance(59 * SECOND)
    assert await outcomes.claim(key, FINGERPRINT) == outcome
    advance(2 * SECOND)
    assert await outcomes.claim(key, FINGERPRINT) is None


@pytest.mark.parametrize(
    "fields",
    [
        7,
        [],
        ["verified", 0, 0, 7],
        ["verified", "0", 0, None],
        ["verified", 0, 0, ["0" * 32, []]],
        ["telepathy", 0, 0, None],
    ],
)
async def test_an_outcome_that_cannot_be_read_is_not_answered(client, outcomes, fields):
    key = a_request()
    await client.set(outcome_key(key), signed_outcome(key, [FINGERPRINT_TEXT, fields]))
    with pytest.raises(StoreUnavailableError):
        await outcomes.claim(key, FINGERPRINT)


async def test_what_the_release_before_cannot_read_is_written_only_where_it_is_needed(
    client, outcomes
):
    """It reads four fields: during an upgrade its servers answer what this release recorded."""
    key = a_request()
    for outcome, fields in [(Verification(Outcome.REJECTED), 4), (A_LATE_CODE, 5)]:
        await outcomes.record(key, FINGERPRINT, outcome)
        stored = AuthenticValues(KEYS).open(
            outcome_key(key),
            (key.tenant_id, key.user_id, key.request_id.hex),
            await client.get(outcome_key(key)),
        )
        assert len(orjson.loads(stored)[1]) == fields


@pytest.mark.parametrize("value", [b"", b"{", b"[1, 2]", b"7"])
async def test_a_claim_that_cannot_be_read_is_not_answered(client, outcomes, value):
    key = a_request()
    owner = key.tenant_id, key.user_id, key.request_id.hex
    await client.set(outcome_key(key), AuthenticValues(KEYS).sign(outcome_key(key), owner, value))
    with pytest.raises(StoreUnavailableError):
        await outcomes.claim(key, FINGERPRINT)


def signed_outcome(key, fields, keys=KEYS):
    owner = key.tenant_id, key.user_id, key.request_id.hex
    return AuthenticValues(keys).sign(outcome_key(key), owner, orjson.dumps(fields))


FINGERPRINT_TEXT = b64encode(FINGERPRINT).decode()
FORGED = [FINGERPRINT_TEXT, ["verified", 0, 0, ["0" * 32, elevation_fields(an_elevation())]]]


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: orjson.dumps(FORGED),
        lambda key: signed_outcome(key, FORGED, KeyRing("k-1", {"k-1": bytes([1] * 32)})),
        lambda key: signed_outcome(replace(key, user_id=UserId("bob")), FORGED),
        lambda key: signed_outcome(replace(key, tenant_id=TenantId("other")), FORGED),
        lambda key: signed_outcome(replace(key, request_id=uuid4()), FORGED),
        lambda key: signed_outcome(key, FORGED)[:-1],
    ],
    ids=["no MAC", "another ring", "another user", "another tenant", "another request", "cut"],
)
async def test_s25_a_forged_outcome_is_not_answered_and_the_claim_replaces_it(
    client, outcomes, forge
):
    key = a_request()
    await client.set(outcome_key(key), forge(key))
    assert await outcomes.claim(key, FINGERPRINT) is None
    assert 0 < await client.ttl(outcome_key(key)) <= 60
    with pytest.raises(RequestUnderWayError):
        await outcomes.claim(key, FINGERPRINT)
