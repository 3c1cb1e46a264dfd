"""What one attempt does to an authenticator (S2), and how far what it elevated reaches (S10)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Attempt, Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.throttle import Throttle
from stepup.domain.totp import time_step

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
DESK = SessionHash("a" * 32)
PHONE = SessionHash("b" * 32)
AUTHENTICATOR = Authenticator(
    TenantId("acme"),
    UserId("ada"),
    "enrollment",
    SealedSecret("key", b"sealed"),
    activated_at=NOW - timedelta(days=1),
    last_step=100,
)
LOCKED = replace(AUTHENTICATOR, throttle=Throttle(in_a_row=5, locked_until=NOW))
SUSPENDED = replace(AUTHENTICATOR, throttle=Throttle(in_a_row=100, locked_until=NOW))

RESET_CODE = ResetCodeRecord(
    TenantId("acme"), UserId("ada"), "enrollment", SealedSecret("key", b"sealed"), b"digest"
)


@pytest.mark.parametrize("record", [AUTHENTICATOR, RESET_CODE])
def test_a_new_record_has_no_failures_and_has_not_changed_yet(record):
    assert (record.sessions.failed_sessions, record.version) == ((), 0)


def test_a_code_of_the_step_after_the_last_one_is_verified():
    assert AUTHENTICATOR.attempted(101, DESK, NOW)[1] is Attempt.VERIFIED


def test_a_code_of_the_last_step_is_replayed():
    assert AUTHENTICATOR.attempted(100, DESK, NOW)[1] is Attempt.REPLAYED


def test_a_code_of_a_step_before_the_last_one_is_replayed():
    assert AUTHENTICATOR.attempted(99, DESK, NOW)[1] is Attempt.REPLAYED


def test_a_code_that_fits_no_step_is_wrong():
    assert AUTHENTICATOR.attempted(None, DESK, NOW)[1] is Attempt.WRONG


def test_a_code_is_accepted_once():
    after, _ = AUTHENTICATOR.attempted(101, DESK, NOW)

    assert after.attempted(101, DESK, NOW)[1] is Attempt.REPLAYED


def test_a_verified_code_moves_the_last_step_and_ends_the_row_of_failures():
    failed_before = replace(AUTHENTICATOR, throttle=Throttle(in_a_row=4))

    after, _ = failed_before.attempted(150, DESK, NOW)

    assert after == replace(AUTHENTICATOR, last_step=150, throttle=Throttle())


@pytest.mark.parametrize("step", [None, 100, 99])
def test_a_wrong_and_a_replayed_code_both_count_as_a_failure_and_change_nothing_else(step):
    after, _ = AUTHENTICATOR.attempted(step, DESK, NOW)

    assert after == replace(
        AUTHENTICATOR,
        throttle=Throttle().failed(NOW),
        sessions=AUTHENTICATOR.sessions.failed(DESK, NOW),
    )


@given(st.lists(st.none() | st.integers(min_value=90, max_value=120)))
def test_whatever_is_tried_the_verified_steps_only_ever_grow(steps):
    authenticator, verified = AUTHENTICATOR, [AUTHENTICATOR.last_step]
    for step in steps:
        authenticator, attempt = authenticator.attempted(step, DESK, NOW)
        if attempt is Attempt.VERIFIED:
            verified.append(step)

    assert verified == sorted(set(verified))


def test_a_code_is_looked_at_where_nothing_forbids_it():
    assert AUTHENTICATOR.refusal(DESK, NOW) is None


def test_a_locked_authenticator_looks_at_no_code():
    assert LOCKED.refusal(DESK, NOW - MICROSECOND) is Attempt.THROTTLED


def test_a_code_is_looked_at_again_when_the_lock_ends():
    assert LOCKED.refusal(DESK, NOW) is None


@pytest.mark.parametrize("when", [NOW - MICROSECOND, NOW, NOW + timedelta(days=365)])
def test_a_suspended_authenticator_says_so_locked_or_not(when):
    assert SUSPENDED.refusal(DESK, when) is Attempt.SUSPENDED


@pytest.mark.parametrize(
    ("attempt", "was_evaluated"),
    [
        (Attempt.VERIFIED, True),
        (Attempt.WRONG, True),
        (Attempt.REPLAYED, True),
        (Attempt.THROTTLED, False),
        (Attempt.SUSPENDED, False),
        (Attempt.SESSION_SPENT, False),
    ],
)
def test_an_attempt_is_committed_if_the_code_was_looked_at(attempt, was_evaluated):
    assert attempt.was_evaluated is was_evaluated


def test_s4_a_spent_session_is_told_so_before_any_lock():
    spent = SUSPENDED
    for _ in range(10):
        spent, _ = spent.attempted(None, DESK, NOW)
    assert spent.refusal(DESK, NOW) is Attempt.SESSION_SPENT
    assert spent.refusal(PHONE, NOW) is Attempt.SUSPENDED
    assert spent.attempts_remaining(DESK, NOW) == 0


@pytest.mark.parametrize(
    ("since", "is_noted"),
    [(timedelta(), False), (MINUTE - MICROSECOND, False), (MINUTE, True), (-MINUTE, True)],
)
def test_s4_one_refusal_a_minute_is_noted(since, is_noted):
    noted = AUTHENTICATOR.refused(NOW)
    assert noted == replace(AUTHENTICATOR, refused_at=NOW)
    assert (noted.refused(NOW + since) is not None) is is_noted


INSTANTS = st.timedeltas(timedelta(), timedelta(days=365)).map(lambda later: NOW + later)


@given(INSTANTS, st.sampled_from([0, 1]))
def test_s10_whatever_its_codes_have_elevated_was_by_the_instant_it_says(now, back_steps):
    earliest = time_step(now) - back_steps
    verified, _ = AUTHENTICATOR.attempted(earliest, DESK, now)
    assert now <= verified.elevated_through(back_steps)


@given(INSTANTS)
def test_s10_what_its_next_code_elevates_is_later(now):
    verified, _ = AUTHENTICATOR.attempted(time_step(now) - 1, DESK, now)
    assert verified.elevated_through(back_steps=0) < now


def test_s10_completing_its_enrollment_has_elevated_too():
    completed = replace(AUTHENTICATOR, activated_at=NOW, last_step=time_step(NOW) - 20)
    assert completed.elevated_through(back_steps=0) == NOW
