"""The items of challenges over the wire, from the request for approval to the decision log (S19).

Each row of the tables is one way to use an item, or to misuse it.
"""

from collections import Counter
from contextlib import AsyncExitStack

import pytest
from stepup_tests.desk import ALICE, GLOBEX, Desk, told
from stepup_tests.people import person
from stepup_tests.wire import on_wire, refusal
from stepup_tests.worker import OSQUERY, REMOTE_SHELL

from stepup.domain.audit import EventKind, written
from stepup.service.step_up.revocation import Scope
from stepup.v1 import challenge_service_pb2 as challenges
from stepup.v1 import step_up_service_pb2 as step_up

HOSTS = ("host-1", "host-2")
PHONE = person(session="phone")


class Approvals(Desk):
    """A server, and a challenge for two hosts that Alice approves in another session."""

    async def challenge(self):
        """Let a caller ask for approval in Alice's session, which is not elevated."""
        await self.advance(seconds=30)
        request = challenges.CreateChallengeRequest(
            actor=on_wire(ALICE),
            items=[{"operation": OSQUERY, "target": host, "label": host} for host in HOSTS],
            message="Collect the evidence of incident 7",
        )
        created = await self.client.challenge.CreateChallenge(request, metadata=self.metadata())
        self.challenge_id = created.challenge.challenge_id

    async def approve(self):
        """Give the app's code on the phone."""
        await self.advance(seconds=30)
        request = challenges.AnswerChallengeRequest(
            actor=on_wire(PHONE),
            challenge_id=self.challenge_id,
            code=self.app.code(self.clock.now()),
        )
        answer = await self.client.challenge.AnswerChallenge(
            request, metadata=self.metadata("console")
        )
        assert answer.outcome == step_up.OUTCOME_VERIFIED
        self.approved_at = self.clock.now()

    def request(self, token="", **asked):
        challenge_id, request_id = asked.pop("challenge_id", None), asked.pop("request_id", "")
        request = super().request(token, **asked)
        request.actor.challenge_id = self.challenge_id if challenge_id is None else challenge_id
        request.request_id = request_id
        return request

    async def uses(self):
        """What the audit trail says about items that were used."""
        return await self.worker.events(EventKind.CHALLENGE_ITEM_USED)


@pytest.fixture
async def desk(world):
    async with AsyncExitStack() as stack:
        desk = Approvals(world, stack)
        await desk.serve()
        desk.challenge_id = ""
        await desk.allow()
        await desk.challenge()
        await desk.approve()
        yield desk


def said(answer):
    """Decision, reason and rejection of an answer, without their prefixes."""
    rejection = step_up.ChallengeRejection.Name(answer.challenge_rejection)
    return (*told(answer)[:2], rejection.removeprefix("CHALLENGE_REJECTION_"))


ALLOWED = ("ALLOWED", "CHALLENGE_APPROVED", "UNSPECIFIED")


async def test_s19_two_targets_are_allowed_once_each_and_nothing_else(desk):
    answers = [await desk.ask(target=host) for host in HOSTS]
    assert [said(answer) for answer in answers] == [ALLOWED] * 2
    for answer, host, event in zip(answers, HOSTS, await desk.uses(), strict=True):
        expected = {
            "decision": "allowed",
            "reason": "challenge_approved",
            "caller": "soar",
            "target": host,
            "challenge_id": desk.challenge_id,
            "approved_at": written(desk.approved_at),
            "enrollment_id": desk.app.enrollment_id,
        }
        assert expected.items() <= desk.line(answer).items()
        assert event.details["decision_id"] == answer.decision_id
    for target, rejection in (("host-1", "ITEM_USED"), ("host-3", "NOT_AN_ITEM")):
        answer = await desk.ask(target=target)
        assert said(answer) == ("STEP_UP_REQUIRED", "NOT_ELEVATED", rejection)
        assert not answer.receipt
    # The approval was given in this session, and elevates it for nothing.
    assert said(await desk.ask(actor=PHONE, challenge_id=""))[1] == "NOT_ELEVATED"


def asking(**asked):
    """Check with something else than the challenge is for."""

    async def misused(_desk):
        return asked

    return misused


async def after_the_sign_out(desk):
    await desk.worker.revoke(ALICE)
    return {}


async def after_a_revocation_of_the_user(desk):
    await desk.worker.revoke(PHONE, Scope.USER)
    return {}


async def after_the_authenticator_was_reset(desk):
    await desk.worker.reset(PHONE, desk.app.reset_code)
    return {}


async def after_it_was_cancelled(desk):
    request = challenges.CancelChallengeRequest(
        actor=on_wire(PHONE), challenge_id=desk.challenge_id
    )
    await desk.client.challenge.CancelChallenge(request, metadata=desk.metadata())
    return {}


async def after_a_quarter_of_an_hour(desk):
    await desk.advance(minutes=15)
    return {}


async def before_the_answer(desk):
    await desk.challenge()
    return {}


async def after_it_was_declined(desk):
    await desk.challenge()
    request = challenges.DeclineChallengeRequest(
        actor=on_wire(PHONE), challenge_id=desk.challenge_id
    )
    await desk.client.challenge.DeclineChallenge(request, metadata=desk.metadata("console"))
    return {}


async def a_second_time_at_another_worker(desk):
    assert said(await desk.ask()) == ALLOWED
    await desk.serve()
    return {}


STEP_UP, ENROLL = ("STEP_UP_REQUIRED", "NOT_ELEVATED"), ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


@pytest.mark.parametrize(
    ("misused", "decided", "rejection", "stranger"),
    [
        (asking(challenge_id="00000000-0000-4000-8000-000000000009"), STEP_UP, "UNKNOWN", None),
        (asking(actor=person(tenant=GLOBEX)), ENROLL, "UNKNOWN", "other_tenant"),
        (asking(actor=person("bob")), ENROLL, "UNKNOWN", "other_user"),
        (asking(caller="console"), STEP_UP, "UNKNOWN", "other_caller"),
        (asking(actor=PHONE), STEP_UP, "OTHER_SESSION", None),
        (asking(operation=REMOTE_SHELL), STEP_UP, "NOT_AN_ITEM", None),
        (asking(target=""), STEP_UP, "NOT_AN_ITEM", None),
        (asking(target="HOST-1"), STEP_UP, "NOT_AN_ITEM", None),
        (before_the_answer, STEP_UP, "PENDING", None),
        (after_it_was_declined, STEP_UP, "DECLINED", None),
        (after_it_was_cancelled, STEP_UP, "CANCELLED", None),
        (after_a_quarter_of_an_hour, STEP_UP, "EXPIRED", None),
        (after_the_sign_out, STEP_UP, "REVOKED", None),
        (after_a_revocation_of_the_user, STEP_UP, "REVOKED", None),
        (after_the_authenticator_was_reset, ENROLL, "REVOKED", None),
        (a_second_time_at_another_worker, STEP_UP, "ITEM_USED", None),
    ],
)
async def test_s10_s19_an_item_allows_nothing_else(desk, misused, decided, rejection, stranger):
    asked = await misused(desk)
    used = await desk.uses()
    answer = await desk.ask(**asked)
    assert said(answer) == (*decided, rejection)
    assert not answer.receipt
    assert await desk.uses() == used
    line = desk.line(answer)
    expected = {
        "challenge_id": asked.get("challenge_id", desk.challenge_id),
        "challenge_rejection": rejection.lower(),
        "challenge_stranger": stranger,
        "approved_at": None,
    }
    assert {name: line.get(name) for name in expected} == expected


async def test_an_id_that_is_no_uuid_is_an_error(desk):
    with pytest.raises(Exception) as failed:  # noqa: PT011  # `refusal` demands a status of ours
        await desk.ask(challenge_id="challenge")
    assert refusal(failed.value).reason == "INVALID_FIELD"


async def test_without_a_challenge_nothing_is_said_about_one(desk):
    answer = await desk.ask(challenge_id="")
    assert said(answer) == (*STEP_UP, "UNSPECIFIED")
    assert desk.line(answer).keys().isdisjoint({"challenge_id", "challenge_rejection"})


async def test_a_batch_that_is_sent_again_uses_nothing_twice(desk):
    request = step_up.BatchCheckStepUpRequest(
        actor=desk.request().actor,
        checks=[{"operation": OSQUERY, "target": host} for host in (*HOSTS, "host-1", "host-3")],
        request_id="00000000-0000-4000-8000-000000000001",
    )
    first, again = [
        await desk.client.step_up.BatchCheckStepUp(request, metadata=desk.metadata())
        for _ in range(2)
    ]
    assert [said(answer) for answer in first.decisions] == [
        ALLOWED,
        ALLOWED,
        (*STEP_UP, "ITEM_USED"),
        (*STEP_UP, "NOT_AN_ITEM"),
    ]
    assert list(again.decisions)[:2] == list(first.decisions)[:2]
    assert len(await desk.uses()) == 2


async def test_the_receipt_of_an_item_exempts_one_retry_after_the_challenges_time(desk):
    answer = await desk.ask()
    await desk.advance(minutes=59)
    retry = await desk.ask(answer.receipt)
    assert told(retry) == ("ALLOWED", "EXEMPT_TIMED_OUT_RETRY", "UNSPECIFIED")
    assert desk.line(retry)["retry_of"] == answer.decision_id
    # The item is used, and the challenge's time is over: nothing else allows the action.
    assert said(await desk.ask(answer.receipt)) == (*STEP_UP, "EXPIRED")


async def test_s19_items_are_used_once_by_two_workers(desk):
    clients = [desk.client]
    await desk.serve()
    clients.append(desk.client)
    answers = [
        await client.step_up.CheckStepUp(desk.request(target=host), metadata=desk.metadata())
        for client in clients
        for host in HOSTS
    ]
    assert Counter(map(said, answers)) == {ALLOWED: 2, (*STEP_UP, "ITEM_USED"): 2}
