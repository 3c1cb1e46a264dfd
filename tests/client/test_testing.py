"""What programs use in their tests: the fake decides as the service, and nobody waits for codes."""

import time
from datetime import timedelta
from threading import Thread

import pytest

from stepup.client import (
    ActorContext,
    Allowed,
    EnrollmentRequired,
    NewChallengeItem,
    NotAllowedError,
    NotApprovedError,
    NotVerified,
    OperationCheck,
    StepUpRequired,
    UnavailableError,
    Verified,
)
from stepup.client.testing import CODE, Failure, FakeStepUp, running_server
from stepup.client.testing.fixtures import fake_stepup

__all__ = ["fake_stepup"]

OSQUERY, SHELL = "response.run_osquery", "response.start_remote_shell"
BOB = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
LATER = ActorContext(tenant_id="acme", user_id="bob", session_id="tuesday")


@pytest.fixture(scope="module")
def server():
    """The real server, for the promises that the fake makes as well."""
    with running_server() as running:
        running.select("acme", [OSQUERY], every_time=[SHELL])
        yield running


@pytest.fixture(scope="module")
def bob(server):
    return server.enrol(BOB)


class Real:
    """The real service, behind the steps of a story."""

    def __init__(self, server, person):
        self.stepup, self.person = server.stepup, person

    def code(self):
        return self.person.code()

    def approve(self, challenge_id, code):
        self.stepup.challenges.answer(LATER, challenge_id=challenge_id, code=code)


class Fake:
    """The fake, behind the same steps."""

    def __init__(self, fake):
        fake.need(OSQUERY)
        fake.need(SHELL, every_time=True)
        self.fake, self.stepup = fake, fake.client()
        self.approve = fake.approve

    def code(self):
        return CODE


@pytest.fixture(params=["fake", "real"])
def service(request):
    if request.param == "real":
        yield Real(*map(request.getfixturevalue, ("server", "bob")))
        return
    with FakeStepUp() as fake:
        yield Fake(fake)


def test_a_code_elevates_the_session_that_gave_it(service):
    stepup = service.stepup
    stepup.sign_out(BOB)
    refused = stepup.check(BOB, OSQUERY, target="host-7")
    assert isinstance(refused, StepUpRequired)
    assert (refused.reason, refused.max_age) == ("NOT_ELEVATED", timedelta(minutes=15))
    code = service.code()
    assert isinstance(stepup.verify(BOB, str(int(code) ^ 1).zfill(6)), NotVerified)
    assert isinstance(stepup.verify(BOB, code), Verified)
    assert stepup.require(BOB, OSQUERY, target="host-7").reason == "ELEVATED"
    assert isinstance(stepup.check(LATER, OSQUERY), StepUpRequired)
    stepup.sign_out(BOB)
    assert isinstance(stepup.check(BOB, OSQUERY), StepUpRequired)


def test_a_timed_out_action_runs_again_once(service):
    stepup = service.stepup
    stepup.verify(BOB, service.code())
    action = stepup.action(BOB, OSQUERY, target="host-7")
    with pytest.raises(TimeoutError), action:
        raise TimeoutError
    stepup.sign_out(BOB)
    with action:
        assert action.allowed.reason == "EXEMPT_TIMED_OUT_RETRY"
    with pytest.raises(NotAllowedError), action:
        pytest.fail("it ran a third time")


def test_an_approved_challenge_allows_each_item_once(service):
    stepup = service.stepup
    refused = stepup.check(BOB, SHELL, target="host-7")
    assert (refused.reason, refused.needs_challenge) == ("EVERY_TIME", True)
    items = [NewChallengeItem(operation=SHELL, target="host-7", label="Host 7")]

    code = service.code()

    def show(challenge):
        Thread(target=service.approve, args=[challenge.challenge_id, code]).start()

    approval = stepup.approve(BOB, items, "Open a shell", show=show)
    answers = [
        stepup.check(BOB, SHELL, target=target, challenge_id=approval.challenge_id)
        for target in ("host-7", "host-7", "host-8")
    ]
    assert answers[0].reason == "CHALLENGE_APPROVED"
    assert not any(isinstance(answer, Allowed) for answer in answers[1:])


def test_a_batch_has_an_answer_for_each_check(service):
    service.stepup.verify(BOB, service.code())
    checks = [OperationCheck(operation=OSQUERY), OperationCheck(operation=SHELL)]
    first, second = service.stepup.check_many(BOB, checks)
    assert isinstance(first, Allowed)
    assert isinstance(second, StepUpRequired)


def test_no_code_is_waited_for(server):
    carol = server.enrol(ActorContext(tenant_id="acme", user_id="carol", session_id="monday"))
    codes = [carol.code() for _ in range(3)]
    assert isinstance(server.stepup.verify(carol.actor, codes[-1]), Verified)
    assert len(set(codes)) > 1


def test_time_passes_when_the_test_says_so(fake_stepup):
    fake_stepup.need(OSQUERY, max_age=timedelta(minutes=5))
    stepup = fake_stepup.client()
    fake_stepup.elevate(BOB)
    assert isinstance(stepup.check(BOB, OSQUERY), Allowed)
    fake_stepup.advance(minutes=5)
    assert stepup.check(BOB, OSQUERY).reason == "ELEVATION_TOO_OLD"
    fake_stepup.advance(minutes=10)
    assert stepup.check(BOB, OSQUERY).reason == "NOT_ELEVATED"
    fake_stepup.take_authenticator(BOB)
    assert isinstance(stepup.check(BOB, OSQUERY), EnrollmentRequired)
    assert [each.operation for each in fake_stepup.asked] == [OSQUERY] * 4


def test_answers_and_failures_are_scripted(fake_stepup):
    wanted = StepUpRequired(reason="EVERY_TIME", decision_id="d-1", needs_challenge=True)
    fake_stepup.script(wanted, Failure("PERMISSION_DENIED", "CALLER_NOT_PERMITTED"))
    stepup = fake_stepup.client()
    assert stepup.check(BOB, SHELL) == wanted
    with pytest.raises(Exception, match="CALLER_NOT_PERMITTED") as refused:
        stepup.check(BOB, SHELL)
    assert refused.value.reason == "CALLER_NOT_PERMITTED"
    assert isinstance(stepup.check(BOB, SHELL), Allowed)


def test_a_server_that_fails_or_hangs_allows_nothing(fake_stepup):
    stepup = fake_stepup.client(timeout=0.3)
    with fake_stepup.failing(), pytest.raises(UnavailableError):
        stepup.require(BOB, OSQUERY)
    began = time.monotonic()
    with fake_stepup.frozen(), pytest.raises(UnavailableError):
        stepup.require(BOB, OSQUERY)
    assert time.monotonic() - began < 10
    stepup.require(BOB, OSQUERY)


def test_a_declined_challenge_is_an_error(fake_stepup):
    fake_stepup.need(SHELL, every_time=True)
    items = [NewChallengeItem(operation=SHELL, target="host-7", label="Host 7")]
    with pytest.raises(NotApprovedError) as refused:
        fake_stepup.client().approve(
            BOB, items, "Open a shell", show=lambda asked: fake_stepup.decline(asked.challenge_id)
        )
    assert refused.value.state == "DECLINED"


async def test_asynchronous_programs_use_the_same_fake(fake_stepup):
    fake_stepup.need(OSQUERY)
    async with fake_stepup.async_client() as stepup:
        assert isinstance(await stepup.check(BOB, OSQUERY), StepUpRequired)
        assert isinstance(await stepup.verify(BOB, CODE), Verified)
        assert isinstance(await stepup.check(BOB, OSQUERY), Allowed)
