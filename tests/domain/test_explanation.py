"""An explanation says what the demands on the call would: it cannot be believed otherwise."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

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
from stepup.domain.callers import Caller, Claim, Grant, Patterns, Rule, RulePart
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError
from stepup.domain.explanation import Question, Refusal, explain
from stepup.domain.operations import SIGN_IN, OperationId

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


def rule(methods=("*",), tenants=("*",), operations=("*",), claims=(), origin="rule"):
    return Rule(
        origin, Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(claims)
    )


def soar(*rules):
    return Caller(CallerId("soar"), frozenset(), tuple(rules))


def in_order(claims):
    return tuple(claim for claim in Claim if claim in claims)


def entries(*of):
    return st.lists(st.sampled_from(of), max_size=2)


CLAIMS = st.sets(st.sampled_from(Claim))
RULES = st.builds(
    rule,
    methods=entries(CHECK, VERIFY, LIST, "S/*"),
    tenants=entries("acme", "*", "umbrella"),
    operations=entries("response.*", SIGN_IN, "iam.*"),
    claims=CLAIMS,
)
QUESTIONS = st.one_of(
    st.builds(Question, st.just(LIST)),
    st.builds(
        Question,
        st.just(CHECK),
        st.just(ACME),
        st.sampled_from([OSQUERY, SIGN_IN]),
        CLAIMS.map(in_order),
    ),
    st.builds(Question, st.just(VERIFY), st.just(ACME), claims=CLAIMS.map(in_order)),
)


def answer_of_the_demands(caller, question):
    """What the service makes of such a call, demand by demand; the error that it ends with."""
    actor = Actor(ACME, UserId("bob"), SessionId("s"))
    for claim in question.claims:
        actor = replace(actor, **ASSERTING[claim])
    try:
        rule = caller.demand_method(question.method)
        if question.tenant_id is None:
            return Grant(rule, {})
        rule = caller.demand(question.method, question.tenant_id, question.operation)
        return Grant(rule, caller.demand_claims(question.method, actor, question.operation))
    except (CallerNotPermittedError, ClaimNotPermittedError) as error:
        return error


@settings(max_examples=500)
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
            RulePart.TENANTS: question.tenant_id is None or question.tenant_id in blamed.tenants,
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
