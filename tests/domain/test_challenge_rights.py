"""What rules mean for challenges: which caller has both rights, and which creates none (S19)."""

import pytest

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Patterns, Rule
from stepup.domain.challenge_rights import creates_and_answers, unchallengeable
from stepup.domain.operations import SHIPPED, SIGN_IN, OperationId

OSQUERY, SHELL = OperationId("response.run_osquery"), OperationId("response.start_remote_shell")
OPERATIONS = (SIGN_IN, OSQUERY, SHELL)
CREATE, ANSWER = "ChallengeService/CreateChallenge", "ChallengeService/AnswerChallenge"
CHECK = "StepUpService/CheckStepUp"


def rule(*methods, tenants=("*",), operations=("*",)):
    return Rule(
        "rule", Patterns(methods), Patterns(tenants), Patterns(operations), claims=frozenset()
    )


def soar(*rules):
    return Caller(CallerId("soar"), frozenset(), rules)


@pytest.mark.parametrize(
    ("one", "other", "do_overlap"),
    [
        (["acme"], ["acme"], True),
        (["acme"], ["umbrella"], False),
        (["acme"], ["a*"], True),
        (["a*"], ["acme"], True),
        (["acme-*"], ["a*"], True),
        (["a*"], ["b*"], False),
        (["*"], ["acme"], True),
        (["*"], [], False),
    ],
)
def test_tenants_of_two_rules_overlap_where_a_tenant_is_in_both(one, other, do_overlap):
    creating, answering = rule(CREATE, tenants=one), rule(ANSWER, tenants=other)
    expected = (creating, answering) if do_overlap else None
    assert creates_and_answers(soar(creating, answering), OPERATIONS) == expected


def test_one_rule_may_grant_both():
    both = rule("ChallengeService/*")
    assert creates_and_answers(soar(rule(CHECK), both), OPERATIONS) == (both, both)


@pytest.mark.parametrize("rules", [(rule(CREATE),), (rule(ANSWER),), ()])
def test_a_caller_with_one_permission_is_not_named(rules):
    assert creates_and_answers(soar(*rules), OPERATIONS) is None


def test_a_rule_without_operations_creates_nothing():
    assert creates_and_answers(soar(rule("*", operations=())), OPERATIONS) is None


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule(CHECK)], [OSQUERY, SHELL]),
        ([rule(CHECK), rule(CREATE)], []),
        ([rule("*")], []),
        ([rule(CHECK), rule(CREATE, operations=[SHELL])], [OSQUERY]),
        ([rule(CHECK, operations=[SIGN_IN])], []),
        ([rule(CHECK), rule(CREATE, tenants=["acme"])], [OSQUERY, SHELL]),
        ([rule(CHECK, tenants=["acme"]), rule(CREATE, tenants=["a*"])], []),
        ([rule(CHECK, tenants=["acme-*"]), rule(CREATE, tenants=["acme"])], [OSQUERY, SHELL]),
        ([rule(ANSWER)], []),
    ],
)
def test_operations_that_a_caller_may_check_and_not_ask_for_are_named(rules, expected):
    assert unchallengeable(soar(*rules), OPERATIONS) == expected


def test_the_whole_catalogue_is_compared():
    assert len(unchallengeable(soar(rule(CHECK)), SHIPPED.ids)) == len(set(SHIPPED.ids) - {SIGN_IN})
