"""What one attempt does to an authenticator (S2, S22), and how late it has elevated (S10)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Attempt, Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.code_history import CodeHistory, UsedCode
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError, UnlockLimitError
from stepup.domain.throttle import Throttle
from stepup.domain.totp import StepMatch, time_step

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

WRONG, EARLY, LATE = StepMatch(None), StepMatch(None, 1), StepMatch(None, -1)
REPEATED = StepMatch(None, is_repeated=True)

RESET_CODE = ResetCodeRecord(
    TenantId("acme"), UserId("ada"), "enrollment", SealedSecret("key", b"sealed"), b"digest"
)


@pytest.mark.parametrize("record", [AUTHENTICATOR, RESET_CODE])
def test_a_new_record_has_no_failures_and_has_not_changed_yet(record):
    assert (record.sessions.failed_sessions, record.version) == ((), 0)


def attempted(authenticator, matched, session=DESK, now=NOW):
    return authenticator.attempted(matched, session, now)


@pytest.mark.parametrize("step", [100, 99])
def test_a_code_of_a_step_up_to_the_last_one_is_replayed(step):
    assert attempted(AUTHENTICATOR, StepMatch(step))[1] is Attempt.REPLAYED


@pytest.mark.parametrize(
    ("matched", "cause"),
    [
        (WRONG, Attempt.WRONG),
        (EARLY, Attempt.EARLY),
        (LATE, Attempt.LATE),
        (REPEATED, Attempt.REPEATED),
    ],
)
def test_a_code_that_fits_no_accepted_step_is_refused_by_its_cause(matched, cause):
    assert attempted(AUTHENTICATOR, matched)[1] is cause


def test_a_verified_code_moves_the_last_step_ends_the_row_and_is_remembered():
    failed_before = replace(AUTHENTICATOR, throttle=Throttle(in_a_row=4))

    after, _ = attempted(failed_before, StepMatch(150))

    history = CodeHistory((UsedCode(DESK, 150, NOW),))
    assert after == replace(AUTHENTICATOR, last_step=150, throttle=Throttle(), history=history)


def test_s22_each_session_has_its_own_last_code():
    after, _ = attempted(AUTHENTICATOR, StepMatch(101))
    after, _ = attempted(after, StepMatch(102), PHONE)
    after, _ = attempted(after, StepMatch(103))

    assert (after.history.used_step(DESK), after.history.used_step(PHONE)) == (103, 102)


def test_s22_the_sessions_that_are_remembered_are_bounded():
    authenticator = AUTHENTICATOR
    for number in range(25):
        session = SessionHash(f"{number:032x}")
        authenticator, _ = attempted(authenticator, StepMatch(101 + number), session)

    assert [code.step for code in authenticator.history.used] == list(range(106, 126))


@pytest.mark.parametrize("matched", [WRONG, EARLY, StepMatch(100), StepMatch(99)])
def test_a_wrong_an_early_and_a_replayed_code_count_as_a_failure(matched):
    after, _ = attempted(AUTHENTICATOR, matched)

    assert after == replace(
        AUTHENTICATOR,
        throttle=Throttle().failed(NOW),
        sessions=AUTHENTICATOR.sessions.failed(DESK, NOW),
        history=after.history,
    )


@pytest.mark.parametrize("matched", [LATE, REPEATED])
def test_s22_a_late_and_a_repeated_code_count_nowhere(matched):
    after, _ = attempted(AUTHENTICATOR, matched)

    assert after == replace(AUTHENTICATOR, history=after.history)


@pytest.mark.parametrize("matched", [LATE, REPEATED, StepMatch(100)])
@pytest.mark.parametrize("later", [0, 29])
def test_s22_further_ones_of_the_same_step_change_nothing(matched, later):
    after, cause = attempted(AUTHENTICATOR, matched)

    again = attempted(after, matched, PHONE, NOW + timedelta(seconds=later))

    assert again == (after, cause)


@pytest.mark.parametrize("matched", [LATE, REPEATED, StepMatch(100)])
@pytest.mark.parametrize("later", [timedelta(seconds=30), -timedelta(seconds=60)])
def test_s22_in_another_step_or_once_the_clock_was_set_back_one_is_noted_anew(matched, later):
    after, _ = attempted(AUTHENTICATOR, matched)

    assert attempted(after, matched, now=NOW + later)[0] != after


def test_s22_a_server_whose_clock_is_still_in_the_step_before_notes_nothing_twice():
    after, cause = attempted(AUTHENTICATOR, LATE)

    assert attempted(after, LATE, now=NOW - MICROSECOND) == (after, cause)


@pytest.mark.parametrize("matched", [EARLY, StepMatch(100)])
def test_s22_the_next_right_code_takes_early_and_replayed_ones_out_of_all_counters(matched):
    authenticator, _ = attempted(AUTHENTICATOR, WRONG, now=NOW - MINUTE)
    before = authenticator
    for session in (DESK, PHONE):
        authenticator, _ = attempted(authenticator, matched, session)
    assert len(authenticator.throttle.recent) > 1

    after, _ = attempted(authenticator, StepMatch(time_step(NOW) + 1), PHONE, NOW + MINUTE)

    assert after.throttle == before.throttle.succeeded()
    assert after.attempts_remaining(PHONE, NOW) == 5
    assert after.sessions.attempts_remaining(PHONE, NOW) == 10
    assert after.sessions.attempts_remaining(DESK, NOW) == 9
    assert after.history.forgivable == ()


def test_s22_an_early_code_is_forgiven_by_none_of_the_steps_before_its_own():
    """The counters would tell that it is the next code."""
    early, _ = attempted(AUTHENTICATOR, EARLY)
    wrong, _ = attempted(AUTHENTICATOR, WRONG)
    for step in (time_step(NOW) - 1, time_step(NOW)):
        early, _ = attempted(early, StepMatch(step), PHONE)
        wrong, _ = attempted(wrong, StepMatch(step), PHONE)
        assert (early.throttle, early.sessions) == (wrong.throttle, wrong.sessions)

    forgiven, _ = attempted(early, StepMatch(time_step(NOW) + 1), PHONE)
    assert forgiven.throttle == Throttle()


def test_s22_a_replayed_code_is_forgiven_by_the_right_one_of_the_same_30_seconds():
    """It is dead: with a step back, the code of the step before may be replayed first."""
    used, _ = attempted(AUTHENTICATOR, StepMatch(time_step(NOW) - 1))
    replayed, _ = attempted(used, StepMatch(time_step(NOW) - 1), PHONE)
    after, _ = attempted(replayed, StepMatch(time_step(NOW)), PHONE)
    assert (replayed.throttle.in_a_row, after.throttle) == (1, Throttle())


def test_s22_no_more_failures_are_remembered_than_can_count():
    authenticator = AUTHENTICATOR
    for minute in range(30):
        authenticator, _ = attempted(authenticator, EARLY, now=NOW + minute * MINUTE)

    assert len(authenticator.history.forgivable) == 20


MATCHES = st.sampled_from([WRONG, EARLY, LATE, REPEATED]) | st.integers(90, 120).map(StepMatch)


@given(st.lists(MATCHES))
def test_whatever_is_tried_the_verified_steps_only_ever_grow(matches):
    authenticator, verified = AUTHENTICATOR, [AUTHENTICATOR.last_step]
    for matched in matches:
        authenticator, attempt = attempted(authenticator, matched)
        if attempt is Attempt.VERIFIED:
            verified.append(matched.step)

    assert verified == sorted(set(verified))


def test_a_locked_authenticator_looks_at_no_code():
    assert LOCKED.refusal(DESK, NOW - MICROSECOND) is Attempt.THROTTLED


def test_a_code_is_looked_at_again_when_the_lock_ends():
    assert LOCKED.refusal(DESK, NOW) is None


@pytest.mark.parametrize("when", [NOW - MICROSECOND, NOW, NOW + timedelta(days=365)])
def test_a_suspended_authenticator_says_so_locked_or_not(when):
    assert SUSPENDED.refusal(DESK, when) is Attempt.SUSPENDED


def test_s4_a_spent_session_is_told_so_before_any_lock():
    spent = SUSPENDED
    for _ in range(10):
        spent, _ = attempted(spent, WRONG)
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
def test_s10_what_its_codes_have_elevated_was_by_the_instant_it_says(now, back_steps):
    earliest = StepMatch(time_step(now) - back_steps)
    verified, _ = attempted(AUTHENTICATOR, earliest, now=now)
    assert verified.elevated_through(back_steps) == now


@given(INSTANTS, st.sampled_from([0, 1]))
def test_s10_it_says_a_later_instant_where_an_older_server_took_the_last_code(now, back_steps):
    verified, _ = attempted(AUTHENTICATOR, StepMatch(time_step(now) - 5), now=now - 2 * MINUTE)
    by_an_older_one = replace(verified, last_step=time_step(now) - back_steps)
    assert by_an_older_one.elevated_through(back_steps) >= now
    assert replace(by_an_older_one, history=CodeHistory()).elevated_through(back_steps) >= now


def test_s10_it_says_the_latest_instant_of_all_sessions():
    ahead, _ = attempted(AUTHENTICATOR, StepMatch(101), now=NOW + MICROSECOND)
    behind, _ = attempted(ahead, StepMatch(102), PHONE)
    assert behind.elevated_through(back_steps=1) == NOW + MICROSECOND


def test_s10_completing_its_enrollment_has_elevated_too():
    completed = replace(AUTHENTICATOR, activated_at=NOW, last_step=time_step(NOW) - 20)
    assert completed.elevated_through(back_steps=0) == NOW


def locked_at(now, in_a_row=5):
    """An authenticator with failures in a row, locked for a minute from now."""
    throttle = Throttle(in_a_row, (now - MINUTE,), now + MINUTE)
    return replace(AUTHENTICATOR, throttle=throttle)


def test_s4_unlocking_ends_the_lock_and_forgets_the_24_hours_and_not_the_row():
    unlocked = locked_at(NOW).unlocked(NOW)
    assert unlocked == replace(AUTHENTICATOR, throttle=Throttle(5), unlocked_at=(NOW,))


@pytest.mark.parametrize(
    "authenticator", [AUTHENTICATOR, LOCKED, replace(AUTHENTICATOR, throttle=Throttle(4, (NOW,)))]
)
def test_unlocking_an_authenticator_that_is_not_locked_changes_nothing(authenticator):
    assert authenticator.unlocked(NOW) is authenticator


def test_s4_a_suspension_cannot_be_unlocked():
    with pytest.raises(EnrollmentStateError) as refused:
        locked_at(NOW, in_a_row=100).unlocked(NOW)
    assert refused.value.fault is EnrollmentFault.SUSPENDED


def test_s4_three_unlocks_a_day_leave_none_until_the_first_is_a_day_old():
    times = tuple(NOW - timedelta(hours=hours) for hours in (23, 2, 1))
    thrice = replace(locked_at(NOW), unlocked_at=times)
    assert thrice.unlocks_remaining(NOW) == 0
    with pytest.raises(UnlockLimitError) as refused:
        thrice.unlocked(NOW)
    assert refused.value.retry_after == timedelta(hours=1)
    later = NOW + timedelta(hours=1)
    again = replace(locked_at(later), unlocked_at=times)
    assert again.unlocks_remaining(later) == 1
    assert again.unlocked(later).unlocked_at == (*times[1:], later)


def test_s4_an_unlock_of_a_clock_that_was_set_back_counts():
    times = (NOW + MINUTE,) * 3
    with pytest.raises(UnlockLimitError) as refused:
        replace(locked_at(NOW), unlocked_at=times).unlocked(NOW)
    assert refused.value.retry_after == timedelta(hours=24) + MINUTE


@pytest.mark.parametrize("window_is_full", [True, False])
def test_s4_three_unlocks_give_a_guesser_no_more_than_80_evaluations_a_day(window_is_full):
    """Each unlock is for a lock of any length, or only for that of the 24 hours."""
    authenticator, now, evaluated = AUTHENTICATOR, NOW, 0
    while now < NOW + timedelta(hours=24):
        session = SessionHash(f"{evaluated:032}")
        wait = authenticator.throttle.retry_after(now)
        is_long = wait > timedelta(hours=1)
        if wait and authenticator.unlocks_remaining(now) and (is_long or not window_is_full):
            authenticator = authenticator.unlocked(now)
        elif wait:
            now += wait
        else:
            authenticator, _ = attempted(authenticator, WRONG, session, now)
            evaluated += 1
    assert evaluated == (80 if window_is_full else 35)
    assert not authenticator.throttle.is_suspended
