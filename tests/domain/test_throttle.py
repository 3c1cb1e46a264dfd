"""Wrong codes throttle, then suspend (S4)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stepup.domain.actor import SessionHash
from stepup.domain.throttle import ONE_TIME_CODES, RESET_CODES, SessionThrottle, Throttle

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
TIMES = st.sampled_from([MICROSECOND, MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY - MICROSECOND, DAY])
DESK, PHONE = SessionHash("a" * 32), SessionHash("b" * 32)
SESSIONS = [SessionHash(f"{number:032x}") for number in range(5)]
RULES = st.sampled_from([ONE_TIME_CODES, RESET_CODES])


def minutes(lock):
    return lock // MINUTE


def after_failures(count, throttle=None, now=NOW):
    """A throttle after wrong codes, each given as soon as one may be."""
    throttle = throttle or Throttle()
    for _ in range(count):
        now += throttle.retry_after(now)
        throttle = throttle.failed(now)
    return throttle, now


def spread_over_days(count):
    """A throttle after wrong codes in a row, two days apart, so that no 24 hours have many."""
    throttle, now = Throttle(), NOW
    for _ in range(count):
        now += 2 * DAY
        throttle = throttle.failed(now)
    return throttle, now


@pytest.mark.parametrize(("failures", "remaining"), [(0, 5), (1, 4), (4, 1), (5, 0)])
def test_each_failure_takes_an_attempt(failures, remaining):
    throttle, now = after_failures(failures)

    assert throttle.attempts_remaining(now) == remaining


@pytest.mark.parametrize(
    ("failures", "locked_for"),
    [(4, 0), (5, 15), (6, 0), (9, 0), (10, 30), (11, 0), (14, 0), (15, 60)],
)
def test_each_five_in_a_row_lock_for_longer_up_to_an_hour(failures, locked_for):
    throttle, now = after_failures(failures)

    assert minutes(throttle.retry_after(now)) == locked_for


@pytest.mark.parametrize("failures", [20, 25, 30, 50, 95])
def test_further_fives_in_a_row_lock_for_an_hour_each(failures):
    throttle, now = spread_over_days(failures)

    assert minutes(throttle.retry_after(now)) == 60


@pytest.mark.parametrize(
    ("after", "is_permitted"),
    [
        (15 * MINUTE - MICROSECOND, False),
        (15 * MINUTE, True),
        (15 * MINUTE + MICROSECOND, True),
    ],
)
def test_a_lock_ends_to_the_microsecond(after, is_permitted):
    throttle, now = after_failures(5)

    assert throttle.permits_attempt(now + after) is is_permitted


def test_a_success_ends_the_row():
    throttle, _ = after_failures(4)

    assert throttle.succeeded().attempts_remaining(NOW) == 5


def test_after_a_success_the_first_lock_is_short_again():
    throttle, now = after_failures(5)

    throttle, now = after_failures(5, throttle.succeeded(), now + 15 * MINUTE)

    assert minutes(throttle.retry_after(now)) == 15


def test_a_success_takes_nothing_out_of_the_24_hours():
    throttle, now = Throttle(), NOW
    for _ in range(4):
        throttle, now = after_failures(4, throttle.succeeded(), now)
    throttle, now = after_failures(3, throttle.succeeded(), now)

    assert throttle.succeeded().attempts_remaining(now) == 1


def test_s22_a_success_takes_out_one_failure_of_each_forgiven_instant():
    throttle = Throttle(3, (NOW, NOW, NOW + MINUTE))

    forgiven = throttle.succeeded([NOW, NOW + HOUR])

    assert forgiven == Throttle(recent=(NOW, NOW + MINUTE))


def nineteen_within_a_day():
    """Nineteen failures, one a minute, no five of them in a row; when the last one was."""
    throttle = Throttle()
    for minute in range(19):
        throttle = throttle.succeeded().failed(NOW + minute * MINUTE)
    return throttle.succeeded(), NOW + 18 * MINUTE


def test_nineteen_failures_within_24_hours_leave_one_attempt():
    throttle, now = nineteen_within_a_day()

    assert throttle.attempts_remaining(now) == 1


def test_the_twentieth_failure_locks_for_the_rest_of_the_24_hours():
    throttle, now = nineteen_within_a_day()

    assert throttle.failed(now).locked_until == NOW + DAY


@pytest.mark.parametrize(
    ("last", "is_locked"), [(NOW + DAY - MICROSECOND, True), (NOW + DAY, False)]
)
def test_a_failure_that_is_a_day_old_counts_no_more(last, is_locked):
    throttle, _ = nineteen_within_a_day()

    assert bool(throttle.failed(last).retry_after(last)) is is_locked


def test_the_attempts_come_back_one_by_one_as_the_failures_get_a_day_old():
    throttle, now = nineteen_within_a_day()
    throttle = throttle.failed(now).succeeded()

    remaining = [
        throttle.attempts_remaining(NOW + DAY + minute * MINUTE) for minute in (0, 1, 2, 3, 4, 5)
    ]

    assert remaining == [1, 2, 3, 4, 5, 5]


def test_each_further_failure_locks_until_the_next_oldest_is_a_day_old():
    throttle, now = nineteen_within_a_day()

    throttle = throttle.failed(now).succeeded().failed(NOW + DAY)

    assert throttle.locked_until == NOW + DAY + MINUTE


def test_of_two_locks_the_longer_one_holds_when_the_day_is_longer():
    throttle, now = after_failures(20)

    assert throttle.retry_after(now) == NOW + DAY - now > HOUR


def test_of_two_locks_the_longer_one_holds_when_the_row_is_longer():
    throttle, _ = nineteen_within_a_day()
    just_before = NOW + DAY - 10 * MINUTE
    # The row: four failures that count no more, and the twentieth within the day.
    throttle = Throttle(in_a_row=14, recent=throttle.recent)

    assert minutes(throttle.failed(just_before).retry_after(just_before)) == 60


def test_only_the_latest_twenty_failures_are_kept():
    assert len(after_failures(60)[0].recent) <= 20


def test_ninety_nine_in_a_row_leave_one_attempt():
    throttle, now = spread_over_days(99)

    assert (throttle.is_suspended, throttle.attempts_remaining(now)) == (False, 1)


def test_a_hundred_in_a_row_suspend():
    assert spread_over_days(100)[0].is_suspended


def test_a_suspension_does_not_end_with_time():
    throttle, now = spread_over_days(100)

    assert not throttle.permits_attempt(now + 365 * DAY)


def test_a_failure_from_the_future_still_counts():
    throttle, now = nineteen_within_a_day()

    assert throttle.attempts_remaining(now - HOUR) == 1


def test_a_clock_set_back_prolongs_a_lock():
    throttle, now = after_failures(5)

    assert minutes(throttle.retry_after(now - HOUR)) == 75


def test_an_attempt_remains_wherever_one_is_permitted():
    throttle, now = nineteen_within_a_day()
    throttle = throttle.failed(now)
    # A success just after the lock, and then a clock that runs behind: all twenty count again.
    set_back = NOW + DAY - HOUR

    assert throttle.succeeded().permits_attempt(set_back)
    assert throttle.succeeded().attempts_remaining(set_back) == 1


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens, in time that passes: the clock may be set back, but never runs ahead."""

    def __init__(self):
        super().__init__()
        self.throttle = Throttle()
        self.time = NOW
        self.behind = timedelta()
        self.failures = []
        self.row = 0
        self.not_before = NOW

    @property
    def clock(self):
        return self.time - self.behind

    def fail(self):
        assert self.time >= self.not_before, "a code was evaluated while locked"
        self.throttle = self.throttle.failed(self.clock)
        self.failures.append(self.time)
        self.row += 1
        if self.row % 5 == 0:
            self.not_before = self.time + {5: 15, 10: 30}.get(self.row, 60) * MINUTE

    @rule(by=TIMES)
    def time_passes(self, by):
        self.time += by

    @rule()
    def the_lock_passes(self):
        self.time += self.throttle.retry_after(self.clock)

    @rule(by=TIMES)
    def the_clock_is_set_back(self, by):
        assume(self.behind + by <= 2 * DAY)
        self.behind += by

    @precondition(lambda self: self.throttle.permits_attempt(self.clock))
    @rule()
    def a_code_is_wrong(self):
        self.fail()

    @precondition(lambda self: self.throttle.permits_attempt(self.clock))
    @rule()
    def codes_are_wrong_until_the_lock(self):
        remaining, before = self.throttle.attempts_remaining(self.clock), len(self.failures)
        while self.throttle.permits_attempt(self.clock):
            self.fail()
        assert len(self.failures) - before == remaining

    @precondition(lambda self: self.throttle.permits_attempt(self.clock))
    @rule()
    def a_code_is_right(self):
        assert self.time >= self.not_before, "a code was evaluated while locked"
        self.throttle = self.throttle.succeeded()
        self.row = 0

    @invariant()
    def no_24_hours_have_more_than_twenty_failures(self):
        pairs = zip(self.failures, self.failures[20:], strict=False)
        assert all(later - earlier >= DAY for earlier, later in pairs)

    @invariant()
    def a_hundred_in_a_row_are_the_last(self):
        assert self.row <= 100
        assert self.throttle.is_suspended == (self.row == 100)

    @invariant()
    def attempts_remain_exactly_where_one_is_permitted(self):
        permitted = self.throttle.permits_attempt(self.clock)
        assert (self.throttle.attempts_remaining(self.clock) > 0) is permitted

    @invariant()
    def there_is_a_wait_exactly_where_a_lock_keeps_an_attempt_away(self):
        if not self.throttle.is_suspended:
            waits = self.throttle.retry_after(self.clock) > timedelta()
            assert waits is not self.throttle.permits_attempt(self.clock)


TestAnyHistory = AnyHistory.TestCase


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


@pytest.mark.parametrize("failures", [0, 4, 5, 20, 99])
def test_an_unlocked_person_may_try_at_once_and_the_failures_in_a_row_stay(failures):
    throttle, now = after_failures(failures)
    unlocked = throttle.unlocked()
    assert unlocked.permits_attempt(now)
    assert unlocked == Throttle(failures)


def test_a_suspension_outlasts_an_unlocking():
    throttle, now = after_failures(100)
    assert throttle.unlocked().is_suspended
    assert not throttle.unlocked().permits_attempt(now)


def test_a_suspension_comes_with_a_lock():
    """The stores find suspended people among those with a lock, over or not."""
    assert after_failures(100)[0].locked_until is not None
    assert spread_over_days(100)[0].locked_until is not None
