"""What a caller may do, and what it may claim: nothing, unless a rule says so (S15, S16)."""

from dataclasses import replace

import pytest

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
from stepup.domain.callers import Caller, Callers, Claim, Patterns, Rule, claims_of
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError, InvalidValueError
from stepup.domain.operations import SIGN_IN, OperationId
from stepup.domain.origins import WebOrigin
from stepup.domain.text import Title

ACME = TenantId("acme")
OSQUERY = OperationId("response.run_osquery")
CHECK = "StepUpService/CheckStepUp"
BOB = Actor(ACME, UserId("bob"), SessionId("s"))


def rule(methods=(CHECK,), tenants=("acme",), operations=("response.*",), claims=()):
    return Rule(
        "callers[0].rules[0]",
        Patterns(methods),
        Patterns(tenants),
        Patterns(operations),
        frozenset(claims),
    )


def caller(*rules, name="soar", identities=("spiffe://acme/soar",)):
    return Caller(CallerId(name), frozenset(identities), rules)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("response.run_osquery", "response.run_osquery"), ("response.*", "response.x"), ("*", "a")],
)
def test_a_pattern_matches_its_name_or_prefix(pattern, name):
    assert name in Patterns([pattern])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("response.run", "response.run_osquery"), ("response.*", "iam.x"), ("response.*", "response")],
)
def test_a_pattern_matches_nothing_else(pattern, name):
    assert name not in Patterns([pattern])


@pytest.mark.parametrize("pattern", ["acme\0", "ac\nme*", "acm\xe9"])
def test_s29_a_pattern_that_no_id_can_match_is_refused(pattern):
    with pytest.raises(InvalidValueError, match="printable ASCII"):
        Patterns([pattern])


def test_all_tenants_are_those_of_the_wildcard():
    method = "PeopleService/ListTenants"
    some, every = (
        Rule(
            f"rules[{tenants}]", Patterns([method]), Patterns([tenants]), Patterns([]), frozenset()
        )
        for tenants in ("acme*", "*")
    )
    assert caller(some, every).demand_for_every_tenant(method) is every
    with pytest.raises(CallerNotPermittedError, match=r"needs a rule for all tenants \(\*\)"):
        caller(some).demand_for_every_tenant(method)


@pytest.mark.parametrize("pattern", ["", "*.x", "a*b", "**"])
def test_a_wildcard_elsewhere_than_at_the_end_is_refused(pattern):
    with pytest.raises(InvalidValueError):
        Patterns([pattern])


@pytest.mark.parametrize(
    ("actor", "operation", "claim"),
    [
        (replace(BOB, team=Team.MANAGED_SERVICES_OPERATIONS), None, Claim.MANAGED_SERVICES),
        (replace(BOB, role=Role.MASTER_ADMINISTRATOR), None, Claim.MASTER_ADMINISTRATOR),
        (replace(BOB, retry_receipt=RetryReceipt("r")), OSQUERY, Claim.TIMED_OUT_RETRY),
        (replace(BOB, account_type=AccountType.SAML), SIGN_IN, Claim.SAML_ACCOUNT),
        (replace(BOB, account_type=AccountType.SAML_GROUP), SIGN_IN, Claim.SAML_ACCOUNT),
        (
            replace(
                BOB,
                playbook_run=PlaybookRun(OpaqueId("p"), OpaqueId("r"), PlaybookTrigger.AUTOMATIC),
            ),
            OSQUERY,
            Claim.AUTOMATIC_PLAYBOOK,
        ),
    ],
)
def test_what_leads_to_an_exemption_or_a_right_is_a_claim(actor, operation, claim):
    assert list(claims_of(actor, operation)) == [claim]


@pytest.mark.parametrize(
    ("actor", "operation"),
    [
        (BOB, SIGN_IN),
        (replace(BOB, account_type=AccountType.SAML), OSQUERY),
        (
            replace(
                BOB, playbook_run=PlaybookRun(OpaqueId("p"), OpaqueId("r"), PlaybookTrigger.MANUAL)
            ),
            OSQUERY,
        ),
    ],
)
def test_what_leads_to_nothing_is_no_claim(actor, operation):
    assert list(claims_of(actor, operation)) == []


def test_s15_a_caller_without_rules_may_do_nothing():
    with pytest.raises(CallerNotPermittedError):
        caller().demand_method(CHECK)


@pytest.mark.parametrize(
    ("method", "tenant", "operation"),
    [
        ("StepUpService/VerifyOtp", "acme", OSQUERY),
        (CHECK, "umbrella", OSQUERY),
        (CHECK, "acme", OperationId("iam.configure_access")),
    ],
)
def test_s15_a_rule_grants_its_method_its_tenant_and_its_operations_only(method, tenant, operation):
    with pytest.raises(CallerNotPermittedError):
        caller(rule()).demand(method, TenantId(tenant), operation)


def test_s15_what_was_granted_once_is_not_granted_to_whoever_asks_next():
    once = caller(rule(claims=[Claim.MASTER_ADMINISTRATOR]))
    administrator = replace(BOB, role=Role.MASTER_ADMINISTRATOR)
    once.demand(CHECK, ACME, OSQUERY)
    once.demand_claims(CHECK, administrator, OSQUERY)
    with pytest.raises(CallerNotPermittedError):
        once.demand(CHECK, TenantId("umbrella"), OSQUERY)
    with pytest.raises(CallerNotPermittedError):
        once.demand("StepUpService/VerifyOtp", ACME, OSQUERY)
    with pytest.raises(ClaimNotPermittedError):
        once.demand_claims(CHECK, replace(administrator, tenant_id=TenantId("umbrella")), OSQUERY)


def test_s15_a_caller_with_other_rules_remembers_nothing_of_those_before():
    before = caller(rule())
    before.demand(CHECK, ACME, OSQUERY)
    with pytest.raises(CallerNotPermittedError):
        replace(before, rules=()).demand(CHECK, ACME, OSQUERY)


def test_a_rule_grants_what_it_names():
    granting = rule()
    assert caller(rule(tenants=["x"]), granting).demand(CHECK, ACME, OSQUERY) is granting


def test_a_call_without_an_operation_needs_none_granted():
    granting = rule(operations=[])
    assert caller(granting).demand(CHECK, ACME, None) is granting


def test_s15_two_rules_do_not_grant_together_what_neither_grants():
    crossed = caller(rule(tenants=["umbrella"]), rule(methods=["A/B"]))
    with pytest.raises(CallerNotPermittedError):
        crossed.demand(CHECK, ACME, OSQUERY)


@pytest.mark.parametrize("claims", [(), (Claim.AUTOMATIC_PLAYBOOK,)])
def test_s16_a_claim_that_no_rule_grants_is_refused(claims):
    actor = replace(BOB, team=Team.MANAGED_SERVICES_OPERATIONS)
    with pytest.raises(ClaimNotPermittedError) as refused:
        caller(rule(claims=claims)).demand_claims(CHECK, actor, OSQUERY)
    assert refused.value.claim == "managed_services"


def test_s16_a_claim_granted_for_another_operation_is_refused():
    actor = replace(BOB, team=Team.MANAGED_SERVICES_OPERATIONS)
    granted = caller(rule(), rule(operations=["iam.*"], claims=[Claim.MANAGED_SERVICES]))
    with pytest.raises(ClaimNotPermittedError):
        granted.demand_claims(CHECK, actor, OSQUERY)


def test_granted_claims_may_be_asserted_each_by_the_rule_that_grants_it():
    actor = replace(BOB, team=Team.MANAGED_SERVICES_OPERATIONS, role=Role.MASTER_ADMINISTRATOR)
    managed, administers = (
        rule(claims=[claim]) for claim in (Claim.MANAGED_SERVICES, Claim.MASTER_ADMINISTRATOR)
    )
    granting = caller(rule(), administers, managed).demand_claims(CHECK, actor, OSQUERY)
    assert granting == {
        Claim.MANAGED_SERVICES: managed,
        Claim.MASTER_ADMINISTRATOR: administers,
    }


def test_the_first_rule_that_grants_is_the_explanation():
    second = replace(rule(), origin="callers[0].rules[1]")
    assert caller(rule(tenants=["x"]), second).rule_for(CHECK, "acme", OSQUERY) is second


def test_callers_are_found_by_identity_and_by_name():
    soar = caller()
    callers = Callers([soar])
    assert (callers.identified("spiffe://acme/soar"), callers.named("soar")) == (soar, soar)


def test_an_unknown_identity_is_nobody():
    assert Callers([caller()]).identified("spiffe://acme/other") is None


@pytest.mark.parametrize(
    "other", [caller(identities=["spiffe://acme/other"]), caller(name="other")]
)
def test_two_callers_share_neither_a_name_nor_an_identity(other):
    with pytest.raises(InvalidValueError):
        Callers([caller(), other])


def test_people_read_the_title_of_a_caller_or_else_its_name():
    assert caller(name="soar").title_for_people == "soar"
    assert replace(caller(), title=Title("Response automation")).title_for_people == (
        "Response automation"
    )


def test_callers_are_listed_in_their_order():
    soar, console = caller(), caller(name="console", identities=("spiffe://acme/console",))
    assert list(Callers([console, soar])) == [console, soar]


def test_people_know_a_caller_by_its_title_or_else_by_its_name():
    assert caller().title_for_people == "soar"
    assert replace(caller(), title=Title("Response actions")).title_for_people == "Response actions"


def test_s21_a_caller_sends_people_to_its_origins_only():
    console, other = WebOrigin("https://console.example"), WebOrigin("https://evil.example")
    sending = replace(caller(), return_origins=frozenset({console}))
    assert sending.may_return_to(console)
    assert not sending.may_return_to(other)
    assert not caller().may_return_to(console)


def test_s15_only_a_caller_of_a_trial_is_anonymous_and_sends_people_anywhere():
    anonymous = caller(identities=())
    assert anonymous.is_anonymous
    assert anonymous.may_return_to(WebOrigin("https://console.example"))
    assert not caller().is_anonymous
