"""`ExplainStepUp` on the wire."""

from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from stepup_tests.people import administrator, operator, person
from stepup_tests.wire import on_wire, refusal_of
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

from stepup.v1 import step_up_service_pb2 as step_up

ALICE, BOB, ROOT = person(), person("bob"), administrator()


@pytest.fixture
async def app(worker):
    await worker.select(OSQUERY)
    return await worker.enrol(ALICE)


def explaining(actor=ALICE, subject=ALICE, operation=OSQUERY, **fields):
    return step_up.ExplainStepUpRequest(
        actor=on_wire(actor), subject=on_wire(subject), operation=operation, **fields
    )


@pytest.mark.usefixtures("app")
async def test_an_explanation_has_the_decision_and_its_rules(world, worker, client):
    answer = await client.step_up.ExplainStepUp(explaining(target="host-1"))
    reasons = [
        *("MFA_NOT_ENABLED", "OPERATION_NOT_SELECTED", "EXEMPT_MANAGED_SERVICES"),
        *("EXEMPT_AUTOMATIC_PLAYBOOK", "EXEMPT_TIMED_OUT_RETRY", "CHALLENGE_APPROVED"),
        *("ELEVATED", "ENROLLMENT_GRACE", "NOT_ENROLLED", "NOT_ELEVATED"),
    ]
    assert [step_up.DecisionReason.Name(rule.reason) for rule in answer.rules] == [
        f"DECISION_REASON_{reason}" for reason in reasons
    ]
    assert [rule.matched for rule in answer.rules] == [False] * 9 + [True]
    assert answer.rules[6].explanation == "The session has no live elevation."
    del answer.rules[:]
    assert answer == step_up.ExplainStepUpResponse(
        decision=step_up.DECISION_STEP_UP_REQUIRED,
        reason=step_up.DECISION_REASON_NOT_ELEVATED,
        policy_etag=(await worker.policy()).etag,
        requirement={"max_age": timedelta(minutes=15)},
        detail=step_up.NOT_ELEVATED_DETAIL_OTHER_SESSION,
    )
    assert world.decisions() == []


async def test_an_explanation_names_the_challenge_that_is_needed_and_the_one_that_is_refused(
    worker, client
):
    await worker.select(**{REMOTE_SHELL: timedelta()})
    await worker.enrol(ALICE)
    of_another_caller = await worker.challenge(ALICE, (REMOTE_SHELL, "host-1"))
    subject = replace(ALICE, challenge_id=of_another_caller)
    answer = await client.step_up.ExplainStepUp(
        explaining(subject=subject, operation=REMOTE_SHELL, target="host-1")
    )
    assert answer.requirement == step_up.StepUpRequirement(challenge=True)
    assert answer.challenge_rejection == step_up.CHALLENGE_REJECTION_UNKNOWN


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("actor", [ALICE, ROOT, operator()])
async def test_the_person_an_administrator_and_an_operator_are_answered(client, actor):
    answer = await client.step_up.ExplainStepUp(explaining(actor))
    assert answer.decision == step_up.DECISION_STEP_UP_REQUIRED


@pytest.mark.usefixtures("app")
async def test_another_person_is_refused(client):
    refusal = await refusal_of(client.step_up.ExplainStepUp(explaining(BOB)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")


def without_subject():
    request = explaining()
    request.ClearField("subject")
    return request


def with_receipt():
    request = explaining()
    request.subject.retry_receipt = "a receipt"
    return request


def with_operator():
    request = explaining()
    request.subject.operator.name = "sam@platform.example"
    return request


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (without_subject(), "subject"),
        (with_receipt(), "subject.retry_receipt"),
        (with_operator(), "subject.operator"),
        (explaining(subject=person(tenant="globex")), "subject.tenant_id"),
        (explaining(operator(), person(tenant="globex")), "subject.tenant_id"),
        (explaining(operation=""), "operation"),
        (explaining(target="x" * 257), "target"),
    ],
)
async def test_an_invalid_question_is_refused(client, request_, field):
    refusal = await refusal_of(client.step_up.ExplainStepUp(request_))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == [field]
