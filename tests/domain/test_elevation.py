"""How long an elevation lives (S9), and what voids it before (S10)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.elevation import CLOCK_TOLERANCE, LIFETIME, Elevation

VERIFIED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ACTOR = Actor(TenantId("acme"), UserId("ada"), SessionId("s-1"))
ELEVATION = Elevation(
    ACTOR.tenant_id,
    ACTOR.user_id,
    ACTOR.session_hash,
    "enrollment",
    VERIFIED_AT,
    VERIFIED_AT + LIFETIME,
)


def test_an_elevation_lasts_fifteen_minutes():
    assert timedelta(minutes=15) == LIFETIME


def test_clocks_may_differ_by_five_seconds():
    assert timedelta(seconds=5) == CLOCK_TOLERANCE


@pytest.mark.parametrize(
    ("age", "is_live"),
    [
        (-CLOCK_TOLERANCE - MICROSECOND, False),
        (-CLOCK_TOLERANCE, True),
        (timedelta(), True),
        (LIFETIME - MICROSECOND, True),
        (LIFETIME, False),
        (LIFETIME + MICROSECOND, False),
    ],
)
def test_an_elevation_is_live_from_its_code_until_it_expires(age, is_live):
    assert ELEVATION.is_live(VERIFIED_AT + age) is is_live


def test_s9_a_stored_expiry_does_not_lengthen_an_elevation():
    long = replace(ELEVATION, expires_at=VERIFIED_AT + timedelta(hours=1))
    assert not long.is_live(VERIFIED_AT + LIFETIME)


def test_an_elevation_ends_at_the_expiry_it_carries():
    short = replace(ELEVATION, expires_at=VERIFIED_AT + timedelta(minutes=1))

    assert not short.is_live(VERIFIED_AT + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("age", "is_older"),
    [
        (timedelta(minutes=5), False),
        (timedelta(minutes=5) + MICROSECOND, True),
        (-CLOCK_TOLERANCE, False),
    ],
)
def test_an_elevation_of_exactly_the_max_age_is_not_older(age, is_older):
    assert ELEVATION.is_older_than(timedelta(minutes=5), VERIFIED_AT + age) is is_older
