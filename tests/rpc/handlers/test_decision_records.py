"""What the decision log says of the caller: who it is, what proved it, and what lets it ask."""

import pytest
from stepup_tests.callers import admitting
from stepup_tests.people import person
from stepup_tests.wire import Client, on_wire, served
from stepup_tests.worker import API_KEYS, OSQUERY

from stepup.domain.actor import CallerId, Role, Team
from stepup.domain.callers import Caller, Claim, Patterns, Rule
from stepup.v1 import step_up_service_pb2 as step_up

IDENTITIES = ("jwt:https://issuer.example#soar", "spiffe://acme/soar")
ALICE = on_wire(person(team=Team.MANAGED_SERVICES_OPERATIONS, role=Role.MASTER_ADMINISTRATOR))


def rule(origin, operations, *claims):
    return Rule(
        origin,
        Patterns(["StepUpService/*"]),
        Patterns(["acme"]),
        Patterns([operations]),
        frozenset(claims),
    )


SOAR = Caller(
    CallerId("soar"),
    frozenset(IDENTITIES),
    (
        rule("rules[0]", "iam.*"),
        rule("rules[1]", "response.*", Claim.MANAGED_SERVICES),
        rule("rules[2]", "*", Claim.MASTER_ADMINISTRATOR),
        rule("rules[3]", "iam.*", Claim.MANAGED_SERVICES),
    ),
)


@pytest.fixture
async def client(worker):
    async with served(worker, admitting(SOAR, *IDENTITIES)) as server:
        client = Client(server.target)
        yield client
        await client.close()


async def test_s15_a_decision_is_on_record_with_what_the_caller_proved(world, client):
    await client.step_up.CheckStepUp(step_up.CheckStepUpRequest(actor=ALICE, operation=OSQUERY))
    [line] = world.decisions()
    assert (line["caller"], line["identities"]) == ("soar", list(IDENTITIES))


async def test_s16_each_decision_of_a_batch_names_the_rules_that_let_it_be_asked(world, client):
    checks = [step_up.OperationCheck(operation=operation) for operation in (OSQUERY, API_KEYS)]
    await client.step_up.BatchCheckStepUp(
        step_up.BatchCheckStepUpRequest(actor=ALICE, checks=checks)
    )
    response, iam = world.decisions()
    assert (response["granted_by"], response["claims"]) == (
        "rules[1]",
        {"managed_services": "rules[1]", "master_administrator": "rules[2]"},
    )
    assert (iam["granted_by"], iam["claims"]) == (
        "rules[0]",
        {"managed_services": "rules[3]", "master_administrator": "rules[2]"},
    )
    assert response["request_id"] == iam["request_id"]
