"""A session's wrong codes keep that session from trying, and no other one (S4)."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import SessionHash
from stepup.domain.session_throttle import ONE_TIME_CODES, RESET_CODES, SessionThrottle

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DESK, PHONE = SessionHash("a" * 32), SessionHash("b" * 32)
SESSIONS = [SessionHash(f"{number:032x}") for number in range(5)]
RULES = st.sampled_from([ONE_TIME_CODES, RESET_CODES])


def after(count, rule=ONE_TIME_CODES, session=DESK, every=MICROSECOND):
    throttle, now = SessionThrottle(rule), NOW
    for number in range(count):
        now = NOW + number * every
        throttle = throttle.failed(session, now)
    return throttle, now


def test_a_session_has_ten_attempts():
    throttle, now = after(0)
    assert throttle.attempts_remaining(DESK, now) == 10


def test_nine_failures_leave_one_attempt():
    throttle, now = after(9)
    assert (throttle.retry_after(DESK, now), throttle.attempts_remaining(DESK, now)) == (
        timedelta(),
        1,
    )


def test_s4_the_tenth_wrong_code_within_a_day_spends_a_session_for_30_days():
    throttle, now = after(10)
    assert throttle.retry_after(DESK, now) == timedelta(days=30)
    assert throttle.attempts_remaining(DESK, now) == 0


def test_s4_the_tenth_wrong_reset_code_within_an_hour_makes_a_session_wait_for_15_minutes():
    throttle, now = after(10, RESET_CODES)
    assert throttle.retry_after(DESK, now) == timedelta(minutes=15)
    later = now + timedelta(minutes=15)
    assert throttle.attempts_remaining(DESK, later) == 10


def test_s4_failures_that_are_a_day_old_do_not_count():
    throttle, now = after(20, every=timedelta(hours=24) / 9)
    assert not throttle.retry_after(DESK, now)
    throttle, now = after(20, every=timedelta(hours=24) / 9 - MICROSECOND)
    assert throttle.retry_after(DESK, now)


def test_s22_what_is_forgiven_does_not_count_for_its_session():
    throttle, now = after(9)
    throttle = throttle.failed(PHONE, NOW)
    forgiven = throttle.forgive([(DESK, NOW), (PHONE, now)])
    assert forgiven.attempts_remaining(DESK, now) == 2
    assert forgiven.attempts_remaining(PHONE, now) == 9


def test_s22_a_spent_session_stays_spent_whatever_is_forgiven():
    throttle, now = after(10)
    forgiven = throttle.forgive([(DESK, NOW), (DESK, now)])
    assert forgiven.retry_after(DESK, now) == timedelta(days=30)


def test_a_clock_that_was_set_back_brings_back_no_more_than_the_last_attempt():
    throttle, now = after(20, every=timedelta(hours=24) / 9)
    earlier = now - timedelta(days=1)
    assert throttle.attempts_remaining(DESK, earlier) == 1
    assert throttle.failed(DESK, earlier).retry_after(DESK, earlier)


@given(
    RULES, st.lists(st.tuples(st.sampled_from(SESSIONS), st.timedeltas(timedelta(), timedelta(1))))
)
def test_s4_whatever_other_sessions_try_a_session_has_its_ten_attempts(rule, attempts):
    throttle, now = SessionThrottle(rule), NOW
    for session, later in attempts:
        now += later
        if not throttle.retry_after(session, now):
            throttle = throttle.failed(session, now)
    assert not throttle.retry_after(PHONE, now)
    assert throttle.attempts_remaining(PHONE, now) == 10


@given(RULES, st.lists(st.timedeltas(timedelta(), timedelta(hours=3)), max_size=60))
def test_s4_no_window_has_more_than_ten_evaluated_wrong_codes_of_a_session(rule, waits):
    throttle, now, evaluated = SessionThrottle(rule), NOW, []
    for wait in waits:
        now += wait
        if throttle.retry_after(DESK, now):
            continue
        throttle = throttle.failed(DESK, now)
        evaluated.append(now)
    for first, eleventh in zip(evaluated, evaluated[10:], strict=False):
        assert eleventh - first >= min(rule.window, rule.lock)


@given(RULES, st.integers(0, 300))
def test_s4_the_sessions_that_are_remembered_are_bounded(rule, number):
    throttle = SessionThrottle(rule)
    for each in range(number):
        throttle = throttle.failed(SessionHash(f"{each:032x}"), NOW)
    assert len(throttle.failed_sessions) == min(number, rule.remembered)


def test_s4_the_budget_of_a_person_forgets_no_spent_session():
    """Twenty wrong codes a day spend two sessions a day, for thirty days (S4)."""
    throttle = SessionThrottle(ONE_TIME_CODES)
    for day in range(29):
        for number in range(20):
            session = SessionHash(f"{2 * day + number // 10:032x}")
            throttle = throttle.failed(session, NOW + timedelta(days=day))
    now = NOW + timedelta(days=29)
    for number in range(20):
        throttle = throttle.failed(SessionHash(f"{1000 + number:032x}"), now)
    assert all(throttle.retry_after(SessionHash(f"{each:032x}"), now) for each in range(58))
