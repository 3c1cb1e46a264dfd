"""An explanation says what the demands on the call would: it cannot be believed otherwise."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stepup_tests.people import deprovisioning, operator

from stepup.domain.actor import (
    AccountType,
    Actor,
    CallerId,
    OpaqueId,
    PlaybookRun,
    PlaybookTrigger,
    RetryReceipt,
    Role,
    SessionId,
    Team,
    TenantId,
    UserId,
)
from stepup.domain.callers import Caller, Claim, Demands, Grant, Patterns, Rule, RulePart
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError
from stepup.domain.explanation import Question, Refusal, Why, explain, idle_entries
from stepup.domain.operations import SHIPPED, SIGN_IN, OperationId

ACME = TenantId("acme")
OSQUERY = OperationId("response.run_osquery")
CHECK, VERIFY, LIST = "S/CheckStepUp", "S/VerifyOtp", "P/ListOperations"
MANAGED, PLAYBOOK = Claim.MANAGED_SERVICES, Claim.AUTOMATIC_PLAYBOOK
ASSERTING = {
    Claim.MANAGED_SERVICES: {"team": Team.MANAGED_SERVICES_OPERATIONS},
    Claim.AUTOMATIC_PLAYBOOK: {
        "playbook_run": PlaybookRun(OpaqueId("p"), OpaqueId("r"), PlaybookTrigger.AUTOMATIC)
    },
    Claim.TIMED_OUT_RETRY: {"retry_receipt": RetryReceipt("r")},
    Claim.SAML_ACCOUNT: {"account_type": AccountType.SAML},
    Claim.MASTER_ADMINISTRATOR: {"role": Role.MASTER_ADMINISTRATOR},
}
OUTSIDERS = {Claim.OPERATOR: operator(), Claim.DEPROVISIONING: deprovisioning()}
CLAIMS = st.sets(st.sampled_from(Claim))
ASSERTED = st.one_of(
    st.sets(st.sampled_from(sorted(ASSERTING))), st.sampled_from(Claim).map(lambda claim: {claim})
).map(lambda claims: tuple(claim for claim in Claim if claim in claims))
FORGET, TENANTS = "PeopleService/ForgetUser", "PeopleService/ListTenants"
METHODS = (
    Demands("StepUpService/CheckStepUp", tenant=True, operation=True, claims=True),
    Demands("StepUpService/BatchCheckStepUp", tenant=True, operation=True, claims=True),
    Demands("StepUpService/VerifyOtp", tenant=True, operation=False, claims=True),
    Demands("PolicyService/GetPolicy", tenant=True, operation=False, claims=False),
    Demands("PolicyService/ListOperations", tenant=False, operation=False, claims=False),
    Demands(FORGET, tenant=True, operation=False, claims=True, outsiders=frozenset(OUTSIDERS)),
    Demands(TENANTS, tenant=False, operation=False, claims=False, every_tenant=True),
)
CHECK, VERIFY, GET_POLICY, LIST = (METHODS[index].method for index in (0, 2, 3, 4))


def rule(methods=("*",), tenants=("*",), operations=("*",), claims=(), origin="rule"):
    return Rule(
        origin, Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(claims)
    )


def soar(*rules):
    return Caller(CallerId("soar"), frozenset(), tuple(rules))


def entries(*of):
    return st.lists(st.sampled_from(of), max_size=2)


RULES = st.builds(
    rule,
    methods=entries(CHECK, VERIFY, LIST, TENANTS, "S/*"),
    tenants=entries("acme", "*", "umbrella"),
    operations=entries("response.*", SIGN_IN, "iam.*"),
    claims=CLAIMS,
)
QUESTIONS = st.one_of(
    st.builds(Question, st.just(LIST)),
    st.builds(Question, st.just(TENANTS), every_tenant=st.just(True)),
    st.builds(
        Question,
        st.just(CHECK),
        st.just(ACME),
        st.sampled_from([OSQUERY, SIGN_IN]),
        ASSERTED,
    ),
    st.builds(Question, st.just(VERIFY), st.just(ACME), claims=ASSERTED),
)


def answer_of_the_demands(caller, question):
    """What the service makes of such a call, demand by demand; the error that it ends with."""
    actor = Actor(ACME, UserId("bob"), SessionId("s"))
    for claim in question.claims:
        actor = OUTSIDERS.get(claim) or replace(actor, **ASSERTING[claim])
    try:
        rule = caller.demand_method(question.method)
        if question.every_tenant:
            return Grant(caller.demand_for_every_tenant(question.method), {})
        if question.tenant_id is None:
            return Grant(rule, {})
        rule = caller.demand(question.method, question.tenant_id, question.operation)
        return Grant(rule, caller.demand_claims(question.method, actor, question.operation))
    except (CallerNotPermittedError, ClaimNotPermittedError) as error:
        return error


@settings(max_examples=4 * settings.default.max_examples)
@given(st.lists(RULES, max_size=4), QUESTIONS)
def test_s15_s16_an_explanation_is_what_the_demands_say(rules, question):
    caller = soar(*rules)
    demanded, explained = answer_of_the_demands(caller, question), explain(caller, question)
    if isinstance(explained, Refusal):
        assert type(explained.error) is type(demanded)
        assert str(explained.error) == str(demanded)
        assert [mismatch.rule for mismatch in explained.mismatches] == rules
    else:
        assert explained == demanded


@given(st.lists(RULES, min_size=1, max_size=4), QUESTIONS)
def test_the_part_that_is_blamed_is_the_first_that_does_not_match(rules, question):
    explained = explain(soar(*rules), question)
    if not isinstance(explained, Refusal):
        return
    claim = getattr(explained.error, "claim", None)
    for mismatch in explained.mismatches:
        blamed = mismatch.rule
        matches = {
            RulePart.METHODS: question.method in blamed.methods,
            RulePart.TENANTS: (
                "*" in blamed.tenants.entries
                if question.every_tenant
                else question.tenant_id is None or question.tenant_id in blamed.tenants
            ),
            RulePart.OPERATIONS: question.operation is None
            or question.operation in blamed.operations,
            RulePart.CLAIMS: claim is None or Claim(claim) in blamed.claims,
        }
        assert next(part for part in RulePart if not matches[part]) is mismatch.part


def test_a_claim_that_does_not_count_needs_no_rule():
    plain = rule()
    saml = Question(CHECK, ACME, OSQUERY, (Claim.SAML_ACCOUNT,))
    assert explain(soar(plain), saml) == Grant(plain, {})
    assert isinstance(explain(soar(plain), replace(saml, operation=SIGN_IN)), Refusal)


def found(methods=(CHECK,), tenants=("acme",), operations=("response.*",), claims=()):
    rule = Rule("r", Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(claims))
    idle = idle_entries(rule, METHODS, SHIPPED.ids)
    assert {each.rule for each in idle} <= {rule}
    return [(each.part, each.entry, each.why) for each in idle]


@pytest.mark.parametrize(
    "rule",
    [
        {"claims": ASSERTING.keys() - {Claim.SAML_ACCOUNT}},
        {"methods": [FORGET], "operations": [], "claims": OUTSIDERS},
        {"methods": ["StepUpService/*"], "operations": []},
        {"methods": [VERIFY], "operations": []},
        {"methods": [VERIFY], "operations": ["*"]},
        {"methods": [VERIFY, CHECK], "claims": [Claim.MANAGED_SERVICES]},
        {"methods": [LIST], "tenants": [], "operations": []},
        {"methods": [TENANTS], "tenants": ["acme", "*"], "operations": []},
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


@pytest.mark.parametrize("tenants", [[], ["acme"], ["a*"]])
def test_a_method_for_all_tenants_grants_nothing_without_the_wildcard(tenants):
    assert found([TENANTS], tenants=tenants, operations=[]) == [
        (RulePart.METHODS, TENANTS, Why.NOT_ALL_TENANTS)
    ]


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
        ([CHECK, VERIFY], ["response.*"], Claim.OPERATOR),
        ([GET_POLICY], [], Claim.DEPROVISIONING),
    ],
    ids=[
        "an account's sign-in elsewhere",
        "without an operation",
        "without an actor",
        "an operator where none is accepted",
        "an outsider without an actor",
    ],
)
def test_a_claim_that_counts_in_no_call_is_found(methods, operations, claim):
    assert found(methods, operations=operations, claims=[claim]) == [
        (RulePart.CLAIMS, claim.value, Why.NEVER_COUNTS)
    ]


def test_a_further_method_that_no_rule_grants_is_explained():
    question = Question(CHECK, ACME, OSQUERY, required_method=VERIFY)
    assert isinstance(explain(soar(rule((CHECK, VERIFY))), question), Grant)
    refusal = explain(soar(rule((CHECK,))), question)
    assert isinstance(refusal.error, CallerNotPermittedError)
    assert VERIFY in str(refusal.error)


def test_an_outsider_needs_no_further_method():
    question = Question(CHECK, ACME, OSQUERY, (Claim.OPERATOR,), required_method=VERIFY)
    granting = rule((CHECK,), claims=[Claim.OPERATOR])
    assert explain(soar(granting), question) == Grant(granting, {Claim.OPERATOR: granting})
