"""The wizard's states: pending, it grants nothing and replaces nothing (S7)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.changes import UserRevocations
from stepup.domain.code_history import CodeHistory, UsedCode
from stepup.domain.elevation import CLOCK_TOLERANCE
from stepup.domain.enrollment import PENDING_LIFETIME, EnrollmentState, PendingEnrollment
from stepup.domain.errors import EnrollmentFault, EnrollmentStateError
from stepup.domain.totp import Label, StepMatch

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
PENDING = PendingEnrollment(
    TenantId("acme"),
    UserId("ada"),
    SessionHash("hash"),
    "enrollment",
    SealedSecret("key", b"sealed"),
    Label("ada@acme.example"),
    expires_at=NOW + PENDING_LIFETIME,
)
WRONG = StepMatch(None)
CONFIRMED = PENDING.confirmed(StepMatch(100))


def after_wrong_codes(count):
    enrollment = PENDING
    for _ in range(count):
        enrollment = enrollment.confirmed(WRONG)
    return enrollment


def test_a_wizard_lasts_ten_minutes():
    assert timedelta(minutes=10) == PENDING_LIFETIME


def test_a_new_wizard_replaces_nothing_has_no_failures_and_has_not_changed_yet():
    assert (PENDING.replaces, PENDING.by_reset_code, PENDING.failures, PENDING.version) == (
        None,
        False,
        0,
        0,
    )


def test_a_right_code_of_step_zero_confirms_it_too():
    assert PENDING.confirmed(StepMatch(0)).state is EnrollmentState.CONFIRMED


def test_confirming_changes_nothing_but_the_step():
    assert (PENDING.state, CONFIRMED.state) == (EnrollmentState.PENDING, EnrollmentState.CONFIRMED)
    assert replace(PENDING, confirmed_step=100) == CONFIRMED


def test_a_wrong_code_leaves_it_pending_with_a_try_less():
    assert PENDING.confirmed(WRONG) == replace(PENDING, failures=1)


@pytest.mark.parametrize(("wrong_codes", "tries"), [(0, 5), (1, 4), (4, 1), (5, 0)])
def test_it_takes_five_codes(wrong_codes, tries):
    after = after_wrong_codes(wrong_codes)
    assert (after.tries_remaining, after.is_live(NOW)) == (tries, tries > 0)


@pytest.mark.parametrize(
    ("age", "is_live"),
    [
        (timedelta(), True),
        (PENDING_LIFETIME - MICROSECOND, True),
        (PENDING_LIFETIME, False),
    ],
)
def test_it_can_go_on_until_it_expires(age, is_live):
    assert PENDING.is_live(NOW + age) is is_live


def test_s2_until_completion_a_later_code_confirms_it_again_and_is_used_up():
    assert CONFIRMED.confirmed(StepMatch(101)) == replace(CONFIRMED, confirmed_step=101)


@pytest.mark.parametrize("step", [99, 100])
def test_s2_s22_a_code_that_was_used_leaves_it_as_it_is(step):
    assert CONFIRMED.confirmed(StepMatch(step)) == CONFIRMED


@pytest.mark.parametrize(
    "matched", [StepMatch(None, is_repeated=True), StepMatch(None, near_miss=-1)]
)
@pytest.mark.parametrize("wizard", [PENDING, CONFIRMED])
def test_s22_a_repeated_or_late_code_leaves_it_as_it_is(wizard, matched):
    assert wizard.confirmed(matched) == wizard


def test_an_early_code_costs_a_try():
    assert PENDING.confirmed(StepMatch(None, near_miss=1)) == replace(PENDING, failures=1)


def test_s7_a_wrong_code_costs_a_confirmed_wizard_a_try():
    assert CONFIRMED.confirmed(WRONG) == replace(CONFIRMED, failures=1)


def test_a_pending_wizard_cannot_be_completed():
    with pytest.raises(EnrollmentStateError, match="not confirmed") as refused:
        PENDING.completed(None, NOW)
    assert refused.value.fault is EnrollmentFault.NOT_CONFIRMED


def test_completion_brings_the_authenticator_into_force_with_the_confirming_code_used():
    assert CONFIRMED.completed(None, NOW) == Authenticator(
        TenantId("acme"),
        UserId("ada"),
        "enrollment",
        SealedSecret("key", b"sealed"),
        activated_at=NOW,
        last_step=100,
        history=CodeHistory((UsedCode(CONFIRMED.session_hash, 100, NOW),)),
        generation=1,
        enrolled_session=SessionHash("hash"),
    )


def in_force(enrollment_id, generation=1):
    return replace(
        CONFIRMED.completed(None, NOW), enrollment_id=enrollment_id, generation=generation
    )


@pytest.mark.parametrize("generation", [1, 7])
def test_what_replaces_an_authenticator_counts_one_more(generation):
    newer = replace(CONFIRMED, replaces="older").completed(in_force("older", generation), NOW)
    assert (newer.enrollment_id, newer.generation) == ("enrollment", generation + 1)


@pytest.mark.parametrize(
    ("replaces", "active"),
    [
        pytest.param(None, "newer", id="one became active meanwhile"),
        pytest.param("older", "newer", id="another one became active meanwhile"),
        pytest.param("older", None, id="the older one was removed meanwhile"),
    ],
)
def test_it_replaces_nothing_else(replaces, active):
    with pytest.raises(EnrollmentStateError, match="another one") as refused:
        replace(CONFIRMED, replaces=replaces).completed(active and in_force(active), NOW)
    assert refused.value.fault is EnrollmentFault.OTHER_AUTHENTICATOR


@pytest.mark.parametrize(
    ("elevated_at", "last_that_counts"),
    [(NOW - timedelta(minutes=1), NOW - timedelta(minutes=1)), (None, NOW - CLOCK_TOLERANCE)],
    ids=["known", "stored by an earlier version"],
)
def test_s10_a_wizard_is_revoked_with_the_elevation_that_permitted_it(
    elevated_at, last_that_counts
):
    wizard = replace(PENDING, replaces="before", elevated_at=elevated_at)
    assert wizard.is_revoked(UserRevocations(last_that_counts))
    assert not wizard.is_revoked(UserRevocations(last_that_counts - MICROSECOND))
    assert not wizard.is_revoked(UserRevocations())


@pytest.mark.parametrize("permitted", [{}, {"replaces": "before", "by_reset_code": True}])
def test_a_wizard_that_no_elevation_permitted_is_not_revoked(permitted):
    assert not replace(PENDING, **permitted).is_revoked(UserRevocations(NOW))
