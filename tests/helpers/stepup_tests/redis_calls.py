"""One call of each port that Redis stands behind."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from stepup.domain.actor import Actor, CallerId, SessionId, TenantId, UserId
from stepup.domain.elevation import LIFETIME, Elevation, Outcome, Verification
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.rate import Rate
from stepup.service.ports import RequestKey
from stepup.stores.redis import RedisCallerRates, RedisElevations, RedisRecordedOutcomes
from stepup_tests.keys import fresh_ring

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEYS = fresh_ring()


def an_elevation(number=0):
    actor = Actor(TenantId("acme"), UserId(f"user-{number}@example.com"), SessionId(f"s-{number}"))
    return Elevation(
        actor.tenant_id, actor.user_id, actor.session_hash, str(uuid4()), NOON, NOON + LIFETIME
    )


def address(elevation):
    return elevation.tenant_id, elevation.user_id, elevation.session_hash


def every_call(client):
    """One call of each method of every port."""
    elevations, outcomes, elevation = (
        RedisElevations(client, KEYS),
        RedisRecordedOutcomes(client, KEYS),
        None,
    )
    elevation = an_elevation()
    key = RequestKey(elevation.tenant_id, elevation.user_id, uuid4())
    return {
        "ping": elevations.ping(),
        "replace": elevations.replace(elevation),
        "find": elevations.find(*address(elevation)),
        "revoke_session": elevations.revoke_session(*address(elevation)),
        "revoke_user": elevations.revoke_user(elevation.tenant_id, elevation.user_id, NOON),
        "claim": outcomes.claim(key, b"fingerprint"),
        "record": outcomes.record(key, b"fingerprint", Verification(Outcome.REJECTED)),
        "release": outcomes.release(key),
        "spend": RedisCallerRates(client).spend(CallerId("soar"), key.tenant_id, Rate(50, 100), 1),
    }


async def assert_unavailable(client):
    calls = every_call(client)
    answers = await asyncio.gather(*calls.values(), return_exceptions=True)
    for name, answer in zip(calls, answers, strict=True):
        assert type(answer) is StoreUnavailableError, name
        # The driver's words hold addresses and more; they stay in the chain (for the log).
        assert str(answer) == "the store of elevations does not answer"
        assert answer.__cause__ is not None
