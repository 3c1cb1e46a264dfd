"""The rules themselves are specified by tests/golden; here is how they ask for facts."""

from datetime import UTC, datetime

import pytest

from stepup.domain.actor import Actor, SessionId, TenantId, UserId
from stepup.domain.decision import (
    ACCOUNT_MFA,
    ELEVATION,
    ENROLLED,
    REDEMPTION,
    Decision,
    Reason,
    Verdict,
    decide,
)
from stepup.domain.elevation import LIFETIME
from stepup.domain.operations import SHIPPED, OperationId
from stepup.domain.policy import Policy

OSQUERY = OperationId("response.run_osquery")
ACTOR = Actor(TenantId("acme"), UserId("ada"), SessionId("s-1"))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def deciding(policy):
    return decide(SHIPPED.find(OSQUERY), ACTOR, policy, NOW)


@pytest.mark.parametrize("fact", [ELEVATION, ENROLLED, ACCOUNT_MFA, REDEMPTION])
def test_a_fact_shows_its_name(fact):
    assert repr(fact) == fact.name


def test_every_fact_has_a_name_of_its_own():
    assert len({fact.name for fact in (ELEVATION, ENROLLED, ACCOUNT_MFA, REDEMPTION)}) == 4


def test_a_decision_yields_the_fact_it_needs_and_is_sent_its_value():
    asking = deciding(Policy(TenantId("acme"), enabled=True, max_ages={OSQUERY: LIFETIME}))

    asked = [next(asking), asking.send(None)]
    with pytest.raises(StopIteration) as decided:
        asking.send(True)

    assert (asked, decided.value.value.reason) == ([ELEVATION, ENROLLED], Reason.NOT_ELEVATED)


def test_a_decision_that_needs_no_fact_is_made_at_once():
    with pytest.raises(StopIteration) as decided:
        next(deciding(Policy(TenantId("acme"), enabled=False)))

    assert decided.value.value == Verdict(Decision.ALLOWED, Reason.MFA_NOT_ENABLED)
