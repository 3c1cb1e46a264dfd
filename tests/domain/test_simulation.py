"""Recorded checks under another policy. That it is what a real service does: tests/cli/policy."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from stepup_tests.people import ACME, person, playbook_run

from stepup.domain.actor import RetryReceipt, Team
from stepup.domain.decision import Reason
from stepup.domain.operations import SIGN_IN, Operation, OperationId
from stepup.domain.policy import EVERY_TIME, Policy
from stepup.domain.simulation import (
    SHOW_AUTHENTICATOR,
    SHOW_NONE,
    Beginning,
    RecordedCheck,
    SimulatedPerson,
)
from stepup.domain.text import Title

BEGIN = datetime(2026, 3, 1, 10, tzinfo=UTC)
OSQUERY, SHELL, KEYS = "response.run_osquery", "response.start_remote_shell", "iam.keys"
SELECTED = {
    OperationId(OSQUERY): timedelta(minutes=15),
    OperationId(KEYS): timedelta(minutes=5),
    OperationId(SHELL): EVERY_TIME,
}
POLICY = Policy(ACME, enabled=True, max_ages=SELECTED)
GRACE = Policy(ACME, enabled=True, max_ages=SELECTED, enroll_by=BEGIN + timedelta(minutes=10))
ENROLLED = Beginning(enrolled=True, account_mfa=True)
PROMPTS = [Reason.NOT_ELEVATED, Reason.ELEVATED]


def at(minutes):
    return BEGIN + timedelta(minutes=minutes)


def check(minutes, operation=OSQUERY, *, first=None, session="desk", **context):
    """A recorded check; `first` is the minute of the first authorisation of its receipt."""
    if first is not None:
        context["retry_receipt"] = RetryReceipt("recorded")
    return RecordedCheck(
        person(session=session, **context),
        Operation(OperationId(operation), Title(operation)),
        at(minutes),
        None if first is None else at(first),
    )


def reasons(*checks, policy=POLICY, beginning=ENROLLED):
    """The reasons for checks of one person, each in a call of its own."""
    simulated = SimulatedPerson(policy, beginning)
    return [verdict.reason for each in checks for verdict in simulated.check([each])]


def test_a_prompt_elevates_the_session_at_once_and_for_fifteen_minutes():
    assert reasons(check(0), check(14), check(15), check(16)) == PROMPTS * 2


def test_a_prompt_elevates_no_other_session():
    assert reasons(check(0), check(1, session="phone")) == [Reason.NOT_ELEVATED] * 2


def test_a_prompt_for_a_fresher_code_elevates_anew():
    found = reasons(check(0), check(6, KEYS), check(7, KEYS), check(20))
    assert found == [Reason.NOT_ELEVATED, Reason.ELEVATION_TOO_OLD, *[Reason.ELEVATED] * 2]


def test_one_code_answers_the_prompts_of_one_call():
    simulated = SimulatedPerson(POLICY, ENROLLED)
    verdicts = simulated.check([check(0), check(0, KEYS)])
    assert [verdict.reason for verdict in verdicts] == [Reason.NOT_ELEVATED] * 2
    assert [verdict.reason for verdict in simulated.check([check(1)])] == [Reason.ELEVATED]


def test_an_approval_elevates_nothing_and_allows_no_further_action():
    assert reasons(check(0, SHELL), check(1, SHELL), check(2)) == [
        Reason.EVERY_TIME,
        Reason.EVERY_TIME,
        Reason.NOT_ELEVATED,
    ]


def test_a_person_without_an_authenticator_enrols_and_is_elevated():
    found = reasons(check(0), check(1), check(16), beginning=Beginning())
    assert found == [Reason.NOT_ENROLLED, Reason.ELEVATED, Reason.NOT_ELEVATED]


def test_a_person_enrols_where_each_action_needs_an_approval():
    found = reasons(check(0, SHELL), check(1, SHELL), check(2), beginning=Beginning())
    assert found == [Reason.NOT_ENROLLED, Reason.EVERY_TIME, Reason.ELEVATED]


def test_one_enrollment_answers_the_prompts_of_one_call():
    simulated = SimulatedPerson(POLICY, Beginning())
    verdicts = simulated.check([check(0), check(0, KEYS)])
    assert [verdict.reason for verdict in verdicts] == [Reason.NOT_ENROLLED] * 2
    assert [verdict.reason for verdict in simulated.check([check(1, KEYS)])] == [Reason.ELEVATED]


def test_recorded_claims_exempt():
    assert reasons(
        check(0, team=Team.MANAGED_SERVICES_OPERATIONS), check(1, playbook_run=playbook_run())
    ) == [Reason.EXEMPT_MANAGED_SERVICES, Reason.EXEMPT_AUTOMATIC_PLAYBOOK]


def test_a_recorded_retry_has_its_receipt_only_while_the_operation_is_selected():
    assert reasons(check(30, first=0), check(31)) == [
        Reason.EXEMPT_TIMED_OUT_RETRY,
        Reason.NOT_ELEVATED,
    ]
    nothing = Policy(ACME, enabled=True)
    assert reasons(check(30, first=0), policy=nothing) == [Reason.OPERATION_NOT_SELECTED]


def test_an_action_that_the_time_to_enrol_allowed_earned_no_receipt():
    found = reasons(check(9), check(11, first=9), policy=GRACE, beginning=Beginning())
    assert found == [Reason.ENROLLMENT_GRACE, Reason.NOT_ENROLLED]


@pytest.mark.parametrize("first", [9, 10])
def test_an_action_of_an_enrolled_person_or_after_the_time_to_enrol_earned_one(first):
    beginning = ENROLLED if first == 9 else Beginning()
    found = reasons(check(first), check(30, first=first), policy=GRACE, beginning=beginning)
    assert found[1] is Reason.EXEMPT_TIMED_OUT_RETRY


def test_enrolling_later_earns_no_receipt_for_an_earlier_action():
    found = reasons(check(9), check(11), check(30, first=9), policy=GRACE, beginning=Beginning())
    assert found == [Reason.ENROLLMENT_GRACE, Reason.NOT_ENROLLED, Reason.NOT_ELEVATED]


def test_a_recorded_approval_allows_the_action_and_shows_an_authenticator():
    approved = check(0, SHELL, challenge_id=UUID(int=1))
    assert reasons(approved, check(1), beginning=Beginning()) == [
        Reason.CHALLENGE_APPROVED,
        Reason.NOT_ELEVATED,
    ]


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (Beginning(), Reason.MFA_NOT_ENABLED),
        (Beginning(enrolled=True), Reason.MFA_NOT_ENABLED),
        (ENROLLED, Reason.NOT_ELEVATED),
    ],
)
def test_a_sign_in_without_a_policy_follows_the_persons_own_account(beginning, expected):
    assert reasons(check(0, SIGN_IN), policy=Policy(ACME), beginning=beginning) == [expected]


def test_a_person_who_has_enrolled_gives_a_code_at_sign_in_without_a_policy():
    approved = check(0, SHELL, challenge_id=UUID(int=1))
    found = reasons(approved, check(1, SIGN_IN), policy=Policy(ACME), beginning=Beginning())
    assert found == [Reason.MFA_NOT_ENABLED, Reason.NOT_ELEVATED]


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_shows_an_authenticator_or_none_or_neither(reason):
    shown = Beginning.shown_by(reason, None)
    assert shown == Beginning(
        enrolled=reason in SHOW_AUTHENTICATOR, account_mfa=reason in SHOW_AUTHENTICATOR
    )
    assert not SHOW_AUTHENTICATOR & SHOW_NONE


def test_a_sign_in_without_a_code_shows_that_the_account_has_mfa_off():
    shown = Beginning.shown_by(Reason.ELEVATED, Reason.MFA_NOT_ENABLED)
    assert shown == Beginning(enrolled=True, account_mfa=False)
