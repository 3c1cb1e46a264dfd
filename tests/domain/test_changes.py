"""What a worker remembers of revocations (S10), in how much memory (S27)."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import (
    REMEMBER_SECONDS,
    EnrollmentEnded,
    Revocations,
    SessionRevoked,
    UserRevocations,
    UserRevoked,
)
from stepup.domain.elevation import LIFETIME, Elevation

ACME, ADA = TenantId("acme"), UserId("ada")
SESSION, OTHER_SESSION = SessionHash("a" * 32), SessionHash("b" * 32)
VERIFIED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ELEVATION = Elevation(ACME, ADA, SESSION, "enrollment", VERIFIED_AT, VERIFIED_AT + LIFETIME)
MICROSECOND = timedelta(microseconds=1)
UNTIL = pytest.mark.parametrize(
    ("through", "is_void"),
    [
        (VERIFIED_AT - MICROSECOND, False),
        (VERIFIED_AT, True),
        (VERIFIED_AT + MICROSECOND, True),
    ],
)


def after(*changes):
    revocations = Revocations()
    for change in changes:
        revocations.add(change, 0)
    return revocations


@UNTIL
def test_revoking_a_user_voids_what_was_verified_until_then(through, is_void):
    assert after(UserRevoked(ACME, ADA, through)).void(ELEVATION) is is_void


@UNTIL
def test_revoking_a_session_voids_what_was_verified_until_then(through, is_void):
    assert after(SessionRevoked(ACME, ADA, SESSION, through)).void(ELEVATION) is is_void


@pytest.mark.parametrize("other", [("acme", "bob"), ("umbrella", "ada")])
def test_revoking_another_user_or_the_same_id_in_another_tenant_voids_nothing(other):
    tenant_id, user_id = other
    revoked = UserRevoked(TenantId(tenant_id), UserId(user_id), VERIFIED_AT)
    assert not after(revoked).void(ELEVATION)


def test_revoking_another_session_of_the_user_voids_nothing():
    assert not after(SessionRevoked(ACME, ADA, OTHER_SESSION, VERIFIED_AT)).void(ELEVATION)


def test_the_end_of_an_enrollment_voids_all_that_its_codes_earned_whenever():
    later = replace(ELEVATION, verified_at=VERIFIED_AT + timedelta(days=1))
    assert after(EnrollmentEnded(ACME, ADA, "enrollment")).void(later)


def test_the_end_of_another_enrollment_voids_nothing():
    assert not after(EnrollmentEnded(ACME, ADA, "another")).void(ELEVATION)


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "out of order"])
def test_of_two_revocations_the_later_instant_counts(order):
    earlier, later = (VERIFIED_AT + timedelta(seconds=s) for s in (-60, 60))
    revoked = [UserRevoked(ACME, ADA, through) for through in (earlier, later)[::order]]
    assert after(*revoked).void(ELEVATION)


@pytest.mark.parametrize("age", [0, REMEMBER_SECONDS / 2 - 1, REMEMBER_SECONDS])
def test_s10_a_revocation_is_remembered_for_as_long_as_elevations_live(age):
    revocations = after(SessionRevoked(ACME, ADA, OTHER_SESSION, VERIFIED_AT))
    # In the last moment of a generation that began long before.
    began = REMEMBER_SECONDS / 2 - 0.001
    revocations.add(UserRevoked(ACME, ADA, VERIFIED_AT), began)
    revocations.forget(began + age)
    assert revocations.void(ELEVATION)


def test_memory_does_not_grow_a_revocation_is_forgotten_when_nothing_is_left_to_void():
    revocations = after(UserRevoked(ACME, ADA, VERIFIED_AT))
    revocations.forget(1.5 * REMEMBER_SECONDS + 1)
    assert not revocations.void(ELEVATION)


def test_s10_forgetting_a_revocation_keeps_a_later_one():
    revocations = after(UserRevoked(ACME, ADA, VERIFIED_AT - LIFETIME))
    revocations.add(UserRevoked(ACME, ADA, VERIFIED_AT), REMEMBER_SECONDS)
    revocations.forget(1.5 * REMEMBER_SECONDS + 1)
    assert revocations.void(ELEVATION)


def test_s27_a_revocation_takes_few_bytes_and_gives_them_back():
    count, bytes_each = 20_000, 160
    tracemalloc.start()
    try:
        revocations = Revocations()
        for number in range(count):
            session = SessionHash(f"{number:032x}")
            revocations.add(SessionRevoked(ACME, ADA, session, VERIFIED_AT), 0)
        assert tracemalloc.get_traced_memory()[0] < bytes_each * count
        for _ in range(10):
            revocations.forget(2 * REMEMBER_SECONDS)
        assert tracemalloc.get_traced_memory()[0] < count
    finally:
        tracemalloc.stop()


@UNTIL
def test_s10_what_the_feed_holds_voids_what_was_verified_until_then(through, is_void):
    assert UserRevocations(through).void(ELEVATION) is is_void


def test_s10_what_the_feed_holds_of_ended_enrollments_voids_their_elevations():
    long_ago = VERIFIED_AT - timedelta(days=1)
    assert UserRevocations(None, {"enrollment": long_ago}).void(ELEVATION)
    assert not UserRevocations(None, {"other": VERIFIED_AT}).void(ELEVATION)
