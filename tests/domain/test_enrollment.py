"""The wizard's states: pending, it grants nothing and replaces nothing (S7)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.code_history import CodeHistory, UsedCode
from stepup.domain.enrollment import PENDING_LIFETIME, EnrollmentState, PendingEnrollment
from stepup.domain.errors import EnrollmentStateError
from stepup.domain.totp import Label

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
CONFIRMED = PENDING.confirmed(100)


def after_wrong_codes(count):
    enrollment = PENDING
    for _ in range(count):
        enrollment = enrollment.confirmed(None)
    return enrollment


def test_a_wizard_lasts_ten_minutes():
    assert timedelta(minutes=10) == PENDING_LIFETIME


def test_a_wizard_begins_pending():
    assert PENDING.state is EnrollmentState.PENDING


def test_a_new_wizard_replaces_nothing_has_no_failures_and_has_not_changed_yet():
    assert (PENDING.replaces, PENDING.by_reset_code, PENDING.failures, PENDING.version) == (
        None,
        False,
        0,
        0,
    )


def test_a_right_code_confirms_it():
    assert CONFIRMED.state is EnrollmentState.CONFIRMED


def test_a_right_code_of_step_zero_confirms_it_too():
    assert PENDING.confirmed(0).state is EnrollmentState.CONFIRMED


def test_confirming_changes_nothing_but_the_step():
    assert PENDING.confirmed(100) == replace(PENDING, confirmed_step=100)


def test_a_wrong_code_leaves_it_pending_with_a_try_less():
    assert PENDING.confirmed(None) == replace(PENDING, failures=1)


@pytest.mark.parametrize(("wrong_codes", "tries"), [(0, 5), (1, 4), (4, 1), (5, 0)])
def test_it_takes_five_codes(wrong_codes, tries):
    assert after_wrong_codes(wrong_codes).tries_remaining == tries


def test_it_can_go_on_with_its_last_try():
    assert after_wrong_codes(4).is_live(NOW)


def test_it_cannot_go_on_after_five_wrong_codes():
    assert not after_wrong_codes(5).is_live(NOW)


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


@pytest.mark.parametrize("step", [None, 101])
def test_it_is_confirmed_once_so_that_the_reset_code_is_shown_once(step):
    with pytest.raises(EnrollmentStateError, match="confirmed already"):
        CONFIRMED.confirmed(step)


def test_a_pending_wizard_cannot_be_completed():
    with pytest.raises(EnrollmentStateError, match="not confirmed"):
        PENDING.completed(None, NOW)


def test_completion_brings_the_authenticator_into_force_with_the_confirming_code_used():
    assert CONFIRMED.completed(None, NOW) == Authenticator(
        TenantId("acme"),
        UserId("ada"),
        "enrollment",
        SealedSecret("key", b"sealed"),
        activated_at=NOW,
        last_step=100,
        history=CodeHistory((UsedCode(CONFIRMED.session_hash, 100, NOW),)),
    )


def test_it_replaces_the_authenticator_that_it_was_opened_to_replace():
    assert replace(CONFIRMED, replaces="older").completed("older", NOW)


@pytest.mark.parametrize(
    ("replaces", "active"),
    [
        pytest.param(None, "newer", id="one became active meanwhile"),
        pytest.param("older", "newer", id="another one became active meanwhile"),
        pytest.param("older", None, id="the older one was removed meanwhile"),
    ],
)
def test_it_replaces_nothing_else(replaces, active):
    with pytest.raises(EnrollmentStateError, match="has changed"):
        replace(CONFIRMED, replaces=replaces).completed(active, NOW)
