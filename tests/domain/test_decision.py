"""The rules themselves are specified by tests/golden; here is how they ask for facts."""

from datetime import UTC, datetime

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.decision import Decision, Fact, Facts, Reason, Verdict, decide
from stepup.domain.elevation import LIFETIME
from stepup.domain.operations import SHIPPED, OperationId
from stepup.domain.policy import Policy

OSQUERY = OperationId("response.run_osquery")
ACTOR = Actor(TenantId("acme"), UserId("ada"), SessionId("s-1"))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def decided(policy, **facts):
    return decide(SHIPPED.find(OSQUERY), ACTOR, policy, NOW, facts)


def test_a_decision_names_the_fact_that_it_needs_until_it_has_all():
    policy = Policy(TenantId("acme"), enabled=True, max_ages={OSQUERY: LIFETIME})

    assert decided(policy) is Fact.ELEVATION
    assert decided(policy, elevation=None) is Fact.ENROLLED
    assert decided(policy, elevation=None, enrolled=True).reason is Reason.NOT_ELEVATED


def test_a_decision_that_needs_no_fact_is_made_at_once():
    verdict = decided(Policy(TenantId("acme"), enabled=False))

    assert verdict == Verdict(Decision.ALLOWED, Reason.MFA_NOT_ENABLED)


def test_each_fact_has_a_place_among_the_facts():
    assert {fact.value for fact in Fact} == Facts.__annotations__.keys()
