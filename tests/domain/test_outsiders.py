"""Outsiders of a tenant: by which methods they act, and what their callers must not do (S16)."""

import pytest

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Claim, Patterns, Rule
from stepup.domain.outsiders import (
    METHODS_OF_OUTSIDERS,
    outsiders_of,
    replaces_and_gives_codes,
)

IMPORT = "PeopleService/ImportAuthenticators"
FORGET = "PeopleService/ForgetUser"
VERIFY, ANSWER = "StepUpService/VerifyOtp", "ChallengeService/AnswerChallenge"
OPERATOR, DEPROVISIONING = Claim.OPERATOR, Claim.DEPROVISIONING


def rule(*methods, claims=(), tenants=("*",)):
    return Rule("rule", Patterns(methods), Patterns(tenants), Patterns(["*"]), frozenset(claims))


def found(*rules):
    return replaces_and_gives_codes(Caller(CallerId("soar"), frozenset(), rules))


def test_every_outsider_has_methods():
    assert set(METHODS_OF_OUTSIDERS) == {claim for claim in Claim if claim.is_of_outsider}


def test_a_method_accepts_those_outsiders_that_list_it():
    assert outsiders_of(FORGET) == {OPERATOR, DEPROVISIONING}
    assert outsiders_of(IMPORT) == {OPERATOR}
    assert outsiders_of(VERIFY) == set()


@pytest.mark.parametrize(
    "replacing",
    [
        rule(IMPORT, claims=[OPERATOR]),
        rule("EnrollmentService/*", claims=[OPERATOR]),
        rule(FORGET, claims=[DEPROVISIONING], tenants=["acme"]),
    ],
)
@pytest.mark.parametrize("giving", [rule(VERIFY), rule(ANSWER, tenants=["ac*"])])
def test_s16_a_caller_that_replaces_authenticators_and_gives_codes_is_found(replacing, giving):
    other = rule("StepUpService/CheckStepUp")
    assert found(other, giving, replacing) == (replacing, giving)


@pytest.mark.parametrize(
    "replacing",
    [
        rule("EnrollmentService/AdminResetEnrollment", claims=[OPERATOR]),
        rule(FORGET, claims=[DEPROVISIONING]),
    ],
)
def test_s16_a_caller_that_removes_authenticators_and_enrols_people_is_found(replacing):
    enrolling = rule("EnrollmentService/CompleteEnrollment")
    assert found(enrolling, replacing) == (replacing, enrolling)


def test_s16_one_rule_can_do_both():
    both = rule("*", claims=[OPERATOR])
    assert found(both) == (both, both)


@pytest.mark.parametrize(
    "rules",
    [
        [rule(IMPORT, claims=[OPERATOR])],
        [rule(IMPORT, claims=[DEPROVISIONING]), rule(VERIFY)],
        [rule(IMPORT), rule(VERIFY, claims=[OPERATOR])],
        [rule("PeopleService/UnlockUser", claims=[OPERATOR]), rule(VERIFY)],
        [rule(IMPORT, claims=[OPERATOR]), rule("EnrollmentService/CompleteEnrollment")],
        [rule(IMPORT, claims=[OPERATOR], tenants=["acme"]), rule(VERIFY, tenants=["globex"])],
    ],
    ids=[
        "no codes",
        "another claim",
        "the claim elsewhere",
        "another method",
        "enrols nobody",
        "another tenant",
    ],
)
def test_other_callers_are_not_found(rules):
    assert found(*rules) is None
