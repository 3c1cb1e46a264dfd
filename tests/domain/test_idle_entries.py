"""What of a rule can never apply is found, and nothing else is."""

import pytest

from stepup.domain.callers import Claim, Demands, Patterns, Rule, RulePart
from stepup.domain.idle_entries import Why, idle_entries
from stepup.domain.operations import SHIPPED

METHODS = (
    Demands("StepUpService/CheckStepUp", tenant=True, operation=True, claims=True),
    Demands("StepUpService/BatchCheckStepUp", tenant=True, operation=True, claims=True),
    Demands("StepUpService/VerifyOtp", tenant=True, operation=False, claims=True),
    Demands("PolicyService/GetPolicy", tenant=True, operation=False, claims=False),
    Demands("PolicyService/ListOperations", tenant=False, operation=False, claims=False),
)
CHECK, VERIFY, GET_POLICY, LIST = (METHODS[index].method for index in (0, 2, 3, 4))


def found(methods=(CHECK,), tenants=("acme",), operations=("response.*",), claims=()):
    rule = Rule("r", Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(claims))
    idle = idle_entries(rule, METHODS, SHIPPED.ids)
    assert {each.rule for each in idle} <= {rule}
    return [(each.part, each.entry, each.why) for each in idle]


@pytest.mark.parametrize(
    "rule",
    [
        {"claims": set(Claim) - {Claim.SAML_ACCOUNT}},
        {"methods": ["StepUpService/*"], "operations": []},
        {"methods": [VERIFY], "operations": []},
        {"methods": [VERIFY], "operations": ["*"]},
        {"methods": [VERIFY, CHECK], "claims": [Claim.MANAGED_SERVICES]},
        {"methods": [LIST], "tenants": [], "operations": []},
        {"methods": ["*"], "tenants": ["*"], "operations": ["*"], "claims": Claim},
        {"operations": ["account.sign_in"], "claims": [Claim.SAML_ACCOUNT]},
    ],
    ids=" ".join,
)
def test_a_rule_that_can_apply_in_all_its_parts_has_no_idle_entry(rule):
    assert found(**rule) == []


@pytest.mark.parametrize("method", ["StepUpService/CheckStepup", "StepupService/*", "CheckStepUp"])
def test_a_method_that_there_is_not_is_found(method):
    assert found([CHECK, method]) == [(RulePart.METHODS, method, Why.MATCHES_NOTHING)]


@pytest.mark.parametrize("operation", ["response.remote_shel", "respnse.*", "response"])
def test_an_operation_that_there_is_not_is_found(operation):
    assert found(operations=["iam.*", operation]) == [
        (RulePart.OPERATIONS, operation, Why.MATCHES_NOTHING)
    ]


def test_what_follows_from_a_mistake_is_not_told_beside_it():
    # Without the operation, neither the method nor the claim can apply.
    assert found(operations=["response.remote_shel"], claims=[Claim.MANAGED_SERVICES]) == [
        (RulePart.OPERATIONS, "response.remote_shel", Why.MATCHES_NOTHING)
    ]


def test_a_rule_without_methods_grants_nothing():
    assert found([]) == [(RulePart.METHODS, None, Why.NO_METHODS)]


def test_a_method_that_is_for_a_tenant_grants_nothing_without_tenants():
    assert found([GET_POLICY, LIST], tenants=[]) == [(RulePart.METHODS, GET_POLICY, Why.NO_TENANTS)]


def test_a_method_that_is_about_an_operation_grants_nothing_without_operations():
    assert found([CHECK, VERIFY], operations=[]) == [(RulePart.METHODS, CHECK, Why.NO_OPERATIONS)]


def test_operations_limit_no_method_that_is_about_none():
    assert found([VERIFY], operations=["response.*"]) == [
        (RulePart.OPERATIONS, "response.*", Why.LIMITS_NOTHING)
    ]


@pytest.mark.parametrize(
    ("methods", "operations", "claim"),
    [
        ([CHECK], ["response.*"], Claim.SAML_ACCOUNT),
        ([VERIFY], [], Claim.SAML_ACCOUNT),
        ([GET_POLICY], [], Claim.MANAGED_SERVICES),
    ],
    ids=["an account's sign-in elsewhere", "without an operation", "without an actor"],
)
def test_a_claim_that_counts_in_no_call_is_found(methods, operations, claim):
    assert found(methods, operations=operations, claims=[claim]) == [
        (RulePart.CLAIMS, claim.value, Why.NEVER_COUNTS)
    ]
