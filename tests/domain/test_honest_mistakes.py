"""Honest people are never locked, and guessers get no more evaluations than before (S4, S22)."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Attempt, Authenticator, SealedSecret
from stepup.domain.elevation import LIFETIME
from stepup.domain.totp import OtpCode, TotpSecret, code_at, match, next_code_after, time_step

MONDAY = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SECRET = TotpSecret(b"12345678901234567890")
UNSEEN = (Attempt.THROTTLED, Attempt.SUSPENDED, Attempt.SESSION_SPENT)
"""Attempts whose code was not looked at."""
SESSIONS = [SessionHash(f"{number:032x}") for number in range(6)]
DESK, PHONE = SESSIONS[:2]
NEW = Authenticator(
    TenantId("acme"),
    UserId("ada"),
    "enrollment",
    SealedSecret("key", b"sealed"),
    activated_at=MONDAY - DAY,
    last_step=0,
)


class Account:
    """One person's authenticator, as VerifyOtp treats it."""

    def __init__(self, back_steps=0):
        self.authenticator = NEW
        self.back_steps = back_steps

    def verify(self, code, now, session=DESK):
        refusal = self.authenticator.refusal(session, now)
        if refusal is not None:
            return refusal
        used_step = self.authenticator.history.used_step(session)
        matched = match(SECRET, code, now, self.back_steps, used_step)
        self.authenticator, attempt = self.authenticator.attempted(matched, session, now)
        return attempt

    def accepts(self, code, now):
        """Whether the code is that of a step which could still be accepted."""
        steps = range(time_step(now) - self.back_steps, time_step(now) + 1)
        return any(
            code_at(SECRET, step) == code for step in steps if step > self.authenticator.last_step
        )


def shown(at, steps=0):
    return code_at(SECRET, time_step(at) + steps)


def wrong(now):
    """A code that fits no step around."""
    around = {shown(now, steps).digits for steps in range(-3, 3)}
    return next(OtpCode(f"{number:06d}") for number in range(7) if f"{number:06d}" not in around)


# (a) Whatever is received within 30 seconds of being read locks nobody.

READINGS = st.tuples(
    st.floats(0, 100),  # seconds since the reading before
    st.lists(st.tuples(st.floats(0, 30), st.sampled_from(SESSIONS)), min_size=1, max_size=8),
)


@given(st.sampled_from([0, 1]), st.lists(READINGS, max_size=25))
def test_s22_no_codes_received_within_30_seconds_of_being_read_lock_anybody(back_steps, readings):
    received, read_at = [], MONDAY
    for later, sendings in readings:
        read_at += later * SECOND
        received += [(read_at + delay * SECOND, shown(read_at), who) for delay, who in sendings]
    account = Account(back_steps)
    for now, code, session in sorted(received, key=lambda each: each[0]):
        assert account.verify(code, now, session) not in (Attempt.WRONG, Attempt.EARLY)
        assert not any(account.authenticator.refusal(each, now) for each in SESSIONS)


def test_s22_the_same_code_in_many_sessions_locks_nobody():
    """Each of six sessions sends what the first one used, each minute for a workday."""
    account = Account(back_steps=1)
    for minute in range(8 * 60):
        now = MONDAY + minute * MINUTE
        attempts = [account.verify(shown(now), now, session) for session in SESSIONS]
        assert attempts == [Attempt.VERIFIED] + 5 * [Attempt.REPLAYED]


@pytest.mark.parametrize("back_steps", [0, 1])
def test_s22_a_slow_hand_and_a_double_click_for_a_month_at_5_minutes_lock_nobody(back_steps):
    """Ten hours a day an operation asks for a code that is not older than 5 minutes."""
    chance = random.Random(22)  # noqa: S311  # the same month each time
    account, results = Account(back_steps), Counter()
    for day in range(30):
        now = MONDAY + day * DAY
        session = SessionHash(f"{day:032x}")
        evening, elevated_at = now + timedelta(hours=10), None
        while now < evening:
            now += chance.uniform(10, 120) * SECOND  # until the next action
            while elevated_at is None or now - elevated_at > 5 * MINUTE:
                read_at, code = now, shown(now)
                now += chance.uniform(3, 29.9) * SECOND  # reads, finds the window, types
                first = account.verify(code, now, session)
                again = min(now + chance.uniform(0.05, 2) * SECOND, read_at + 30 * SECOND)
                results.update([first, account.verify(code, again, session)])
                if first is Attempt.VERIFIED:
                    elevated_at = now
                else:
                    now += next_code_after(now)  # does what the page says
    assert set(results) <= {Attempt.VERIFIED, Attempt.REPEATED, Attempt.LATE}
    assert results[Attempt.VERIFIED] > 2000


# (b) Guesses get no more evaluations than the budget.

GUESSES = ["wrong", "wrong", "late", "used", "replayed"]


@given(
    st.sampled_from([0, 1]),
    st.lists(
        st.tuples(
            st.floats(0, 3000),
            st.sampled_from([*GUESSES, "right"]),
            st.sampled_from(SESSIONS),
        ),
        max_size=120,
    ),
)
def test_s4_s22_what_counts_nowhere_could_not_have_been_accepted(back_steps, attempts):
    """Whoever knows every code that is dead has no more evaluations than who knows none."""
    account, now, evaluated = Account(back_steps), MONDAY, []
    for later, kind, session in attempts:
        now += later * SECOND
        before = account.authenticator
        used = before.history.used_step(session)
        code = wrong(now)
        if kind == "right" or (kind == "used" and used is None):
            code = shown(now)  # the person
        elif kind != "wrong":
            late = time_step(now) - back_steps - 1
            code = code_at(SECRET, {"late": late, "used": used, "replayed": before.last_step}[kind])
        could_be_accepted = account.accepts(code, now)
        attempt = account.verify(code, now, session)
        after = account.authenticator
        counts = (after.throttle, after.sessions) != (before.throttle, before.sessions)
        if attempt is Attempt.VERIFIED:
            continue
        assert counts or attempt in UNSEEN or not could_be_accepted
        if attempt is Attempt.WRONG:
            assert counts
            evaluated.append((now, session))
    times = [at for at, _ in evaluated]
    assert all(later - first >= DAY for first, later in zip(times, times[20:], strict=False))
    assert all(number <= 10 for number in Counter(s for _, s in evaluated).values())


def guess_for_a_month(*, person_is_there):
    """How many guesses are evaluated, if they come as often and from as many sessions as helps."""
    account, evaluations = Account(), 0
    for minute in range(30 * 24 * 60):
        now = MONDAY + minute * MINUTE
        if person_is_there and minute % (24 * 60) == 0:
            account.verify(shown(now), now)
        session = SessionHash(f"{1000 + evaluations // 10:032x}")
        if account.authenticator.refusal(session, now) is None:
            # What is free comes first: the late code, and the one that the person used.
            free = [account.verify(shown(now, -1), now, session) for _ in range(3)]
            assert set(free) == {Attempt.LATE}
            evaluations += account.verify(wrong(now), now, session) is Attempt.WRONG
    return evaluations, account


def test_s4_a_guesser_has_20_evaluations_a_day_as_before():
    evaluations, _ = guess_for_a_month(person_is_there=True)
    assert evaluations == 30 * 20


def test_s4_a_guesser_has_100_evaluations_where_the_person_gives_no_code():
    evaluations, account = guess_for_a_month(person_is_there=False)
    assert evaluations == 100
    assert account.authenticator.throttle.is_suspended


def test_s22_a_dead_code_buys_no_evaluation_however_often_it_is_sent():
    """Each minute of a month the session sends the code that it used once."""
    account = Account()
    account.verify(shown(MONDAY), MONDAY)
    for minute in range(1, 30 * 24 * 60, 7):
        now = MONDAY + minute * MINUTE
        assert account.verify(shown(MONDAY), now) is Attempt.REPEATED
    assert account.authenticator.throttle == NEW.throttle


def test_s22_a_phone_that_is_ahead_and_is_put_right_costs_nothing():
    account = Account()
    for round_ in range(50):
        now = MONDAY + round_ * timedelta(hours=1)
        for _ in range(4):
            assert account.verify(shown(now, 1), now) is Attempt.EARLY
        assert account.verify(shown(now), now) is Attempt.VERIFIED
        assert account.authenticator.attempts_remaining(DESK, now) == 5
    # What was early in the 30 seconds of the right code is forgiven by the one after it.
    now += MINUTE
    assert account.verify(shown(now), now) is Attempt.VERIFIED
    assert account.authenticator.throttle == NEW.throttle


@given(
    st.sampled_from([0, 1]),
    st.lists(
        st.tuples(
            st.floats(0, 40),
            st.sampled_from(["wrong", "guess", "right", "before"]),
            st.sampled_from(SESSIONS[:3]),
        ),
        max_size=30,
    ),
)
def test_s22_nobody_learns_of_a_code_that_it_is_early_while_it_may_be_accepted(back_steps, calls):
    """Two accounts, of which one has the guess for its next code, are told apart by nothing."""
    accounts = Account(back_steps), Account(back_steps)
    own_step, now = time_step(MONDAY) + 1, MONDAY
    guess = code_at(SECRET, own_step)
    for later, kind, session in [(0, "guess", PHONE), *calls]:
        now += later * SECOND
        if kind == "guess" and time_step(now) >= own_step:
            break  # it may be right from now on
        codes = {"wrong": wrong(now), "right": shown(now), "before": shown(now, -1)}
        early = accounts[0].verify(codes.get(kind, guess), now, session)
        other = accounts[1].verify(codes.get(kind, wrong(now)), now, session)
        assert early is other or (early, other) == (Attempt.EARLY, Attempt.WRONG)
        if accounts[0].authenticator.last_step >= own_step:
            break  # it is used up
        counters = [(each.authenticator.throttle, each.authenticator.sessions) for each in accounts]
        assert counters[0] == counters[1]


def test_s4_codes_that_are_early_lock_until_the_right_one():
    account = Account()
    attempts = [account.verify(shown(MONDAY, 1), MONDAY) for _ in range(6)]
    assert attempts == 5 * [Attempt.EARLY] + [Attempt.THROTTLED]
    assert account.authenticator.throttle.retry_after(MONDAY) == LIFETIME


def test_s4_s22_a_spent_session_stays_spent_after_the_right_code_of_another():
    account = Account()
    for number in range(10):
        now = MONDAY + number * timedelta(hours=1)
        account.verify(shown(now, 1), now)
    now += timedelta(hours=1)
    assert account.verify(shown(now), now, PHONE) is Attempt.VERIFIED
    assert account.verify(shown(now), now) is Attempt.SESSION_SPENT
    assert account.authenticator.throttle == NEW.throttle
