"""The client against a real server: receipts, challenges, and the fields of errors."""

import threading
from datetime import UTC, datetime

import pytest
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.people import OSQUERY, SHELL, administrator, update_policy
from stepup_tests.e2e.processes import eventually
from stepup_tests.otp import code_at

from stepup.client import (
    ActorContext,
    NewChallengeItem,
    NotAllowedError,
    OperationCheck,
    RequestError,
    StepUpClient,
    StepUpRequired,
    Verified,
)
from stepup.client.messages import challenge
from stepup.domain.totp import TotpSecret

pytestmark = pytest.mark.e2e

SECRET = TotpSecret(bytes(range(20)))


@pytest.fixture
def bob(shared_server, tenant, grpcurl):
    selected = [{"operation": OSQUERY}, {"operation": SHELL, "every_time": True}]
    update_policy(grpcurl, administrator(tenant), enabled=True, operations=selected)
    enrolled(shared_server, tenant, {"bob": SECRET})
    return ActorContext(tenant_id=tenant, user_id="bob", session_id="monday")


@pytest.fixture
def stepup(shared_server):
    with StepUpClient(shared_server.address) as stepup:
        yield stepup


def code():
    return code_at(SECRET.octets, datetime.now(UTC))


def test_a_timed_out_action_runs_again_after_the_sign_out(stepup, bob):
    action = stepup.action(bob, OSQUERY, target="host-7")
    with pytest.raises(NotAllowedError), action:
        pytest.fail("the action ran")
    assert isinstance(stepup.verify(bob, code()), Verified)
    with pytest.raises(TimeoutError), action:
        raise TimeoutError
    stepup.sign_out(bob)
    with action:
        assert action.allowed.reason == "EXEMPT_TIMED_OUT_RETRY"
    with pytest.raises(NotAllowedError), action:
        pytest.fail("the action ran")


def test_a_person_approves_the_items_of_a_challenge(stepup, bob):
    answer = stepup.check(bob, SHELL, target="host-7")
    assert isinstance(answer, StepUpRequired)
    assert answer.needs_challenge

    answering = []

    def type_the_code(shown):
        phone = ActorContext(tenant_id=bob.tenant_id, user_id="bob", session_id="phone")

        def answers():
            return stepup.challenges.answer(phone, challenge_id=shown.challenge_id, code=code())

        answering.append(threading.Timer(0.2, answers))
        answering[0].start()

    item = NewChallengeItem(operation=SHELL, target="host-7", label="Mail server")
    approved = stepup.approve(bob, [item], "Look into incident 7", show=type_the_code)
    answering[0].join()  # the wait may end before the answer has come
    found = stepup.approve(bob, [item], "the same", challenge_id=approved.challenge_id)
    assert found.challenge_id == approved.challenge_id
    presented = {"challenge_id": approved.challenge_id}
    checks = [OperationCheck(operation=SHELL, target=target) for target in ("host-7", "host-8")]
    first, other = stepup.check_many(bob, checks, **presented)
    assert first.reason == "CHALLENGE_APPROVED"
    assert other.challenge_rejection == "NOT_AN_ITEM"
    again = stepup.check(bob, SHELL, target="host-7", **presented)
    assert again.challenge_rejection == "ITEM_USED"

    def is_used():
        read = stepup.challenges.get(bob, **presented).challenge
        return (
            read.items[0].HasField("used_at") and read.state == challenge.CHALLENGE_STATE_APPROVED
        )

    eventually(is_used, "the challenge shows its use")


def test_the_server_names_the_field_that_is_wrong(stepup, bob):
    with pytest.raises(RequestError) as raised:
        stepup.require(ActorContext(tenant_id=bob.tenant_id, user_id="bob"), OSQUERY)
    assert (raised.value.reason, raised.value.field) == ("INVALID_FIELD", "actor.session_id")
