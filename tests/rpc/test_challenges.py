"""Challenges on the wire: what each caller sees, and which callers are let in."""

from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from stepup_tests.challenges import ENROLLMENT
from stepup_tests.people import CALLER, administrator, person
from stepup_tests.requests import valid_request
from stepup_tests.wire import Client, on_wire, refusal_of, served
from stepup_tests.worker import API_KEYS, OSQUERY

from stepup.domain.actor import CallerId
from stepup.domain.callers import Caller, Claim, Patterns, Rule
from stepup.domain.challenge import ChallengeState
from stepup.domain.receipts import Redemption
from stepup.domain.text import Title
from stepup.rpc.pipeline.call import AdmittedCaller
from stepup.system.random_ids import random_id
from stepup.v1 import challenge_service_pb2 as pb

ALICE, PHONE, BOB = person(), person(session="phone"), person("bob")
ALL = Patterns(["*"])
ANSWER = "ChallengeService/AnswerChallenge"


def rule(*methods, tenants=("*",), operations=("*",)):
    return Rule(
        "rule", Patterns(methods), Patterns(tenants), Patterns(operations), frozenset(Claim)
    )


@asynccontextmanager
async def calling_as(worker, *rules, name=CALLER, title=None):
    """A client whose caller has these rules."""
    caller = Caller(CallerId(name), frozenset(), rules, title=title)

    async def admit(_invocation):
        return AdmittedCaller(caller, ())

    async with served(worker, admit) as server:
        client = Client(server.target)
        yield client.challenge
        await client.close()


def creation(**fields):
    request = valid_request("CreateChallenge")
    request.actor.CopyFrom(on_wire(ALICE))
    request.MergeFrom(pb.CreateChallengeRequest(**fields))
    return request


def of(kind, challenge_id, actor=ALICE):
    return kind(actor=on_wire(actor), challenge_id=str(challenge_id))


def at(instant):
    message = Timestamp()
    message.FromDatetime(instant)
    return message


async def test_a_new_challenge_has_every_field_that_its_creator_may_see(worker, clock):
    await worker.select(OSQUERY)
    title = Title("The response team")
    async with calling_as(worker, rule("*"), title=title) as client:
        request = creation(items=[{"operation": API_KEYS, "target": "keys", "label": "All keys"}])
        request.expires_in.FromSeconds(60)
        challenge = (await client.CreateChallenge(request)).challenge
    assert challenge == pb.Challenge(
        challenge_id=challenge.challenge_id,
        state=pb.CHALLENGE_STATE_PENDING,
        items=[
            {
                "operation": OSQUERY,
                "title": "Run osquery task",
                "target": "host-1",
                "label": "The server of Ada",
                "needed": True,
            },
            {
                "operation": API_KEYS,
                "title": "Configure API Keys settings",
                "target": "keys",
                "label": "All keys",
            },
        ],
        requested_by=title,
        message="Find the file",
        create_time=at(clock.now()),
        expires_at=at(clock.now() + timedelta(minutes=1)),
        portal_url=f"https://mfa.example/challenges/{challenge.challenge_id}",
    )
    assert len(challenge.challenge_id) == 36


async def test_without_a_portal_a_challenge_has_no_page(world):
    worker = await world.worker(portal=None)
    async with calling_as(worker, rule("*")) as client:
        assert (await client.CreateChallenge(creation())).challenge.portal_url == ""


async def test_a_caller_without_a_title_is_named_by_its_id(worker):
    async with calling_as(worker, rule("*")) as client:
        assert (await client.CreateChallenge(creation())).challenge.requested_by == CALLER


@pytest.mark.parametrize(("field", "seconds"), [("expires_in", (1, 600)), ("valid_for", (1, 3600))])
async def test_the_shortest_and_the_longest_durations_are_taken(worker, clock, field, seconds):
    async with calling_as(worker, rule("*")) as client:
        for number in seconds:
            request = creation()
            getattr(request, field).FromSeconds(number)
            created = (await client.CreateChallenge(request)).challenge
            stored = (
                await worker.read(ALICE, UUID(created.challenge_id), may_answer=True)
            ).challenge
            length = {
                "expires_in": stored.expires_at - clock.now(),
                "valid_for": stored.valid_for,
            }
            assert length[field] == timedelta(seconds=number)


async def test_a_hundred_items_of_the_longest_texts_fit(worker):
    request = creation(message="x" * 487)
    del request.items[:]
    for number in range(100):
        request.items.add(operation=OSQUERY, target=f"{number:0256}", label="ö" * 200)
    async with calling_as(worker, rule("*")) as client:
        created = (await client.CreateChallenge(request)).challenge
        assert [item.target for item in created.items] == [item.target for item in request.items]


async def test_an_approved_challenge_says_until_when_and_which_items_were_used(
    world, worker, clock
):
    challenge_id = await worker.challenge(ALICE, (OSQUERY, "host-1"), (OSQUERY, "host-2"))
    await worker.advance(seconds=30)
    approved_at = clock.now()
    async with world.database.transaction() as records:
        found = await records.challenges.find_for_update(ALICE.tenant_id, challenge_id)
        await records.challenges.save(found.approved(approved_at, ALICE.session_hash, ENROLLMENT))
        use = Redemption(random_id(), approved_at)
        await records.challenges.use_item(ALICE.tenant_id, challenge_id, 1, use)
    async with calling_as(worker, rule("*")) as client:
        challenge = (await client.GetChallenge(of(pb.GetChallengeRequest, challenge_id))).challenge
    assert challenge.state == pb.CHALLENGE_STATE_APPROVED
    assert challenge.answered_at == at(approved_at)
    assert challenge.usable_until == at(approved_at + timedelta(minutes=15))
    assert [item.HasField("used_at") for item in challenge.items] == [False, True]
    assert challenge.items[1].used_at == at(approved_at)


async def test_a_revoked_challenge_is_cancelled_on_the_wire(worker):
    challenge_id = await worker.challenge(ALICE)
    await worker.revoke(ALICE)
    async with calling_as(worker, rule("*")) as client:
        challenge = (await client.GetChallenge(of(pb.GetChallengeRequest, challenge_id))).challenge
    assert challenge.state == pb.CHALLENGE_STATE_CANCELLED
    assert not challenge.HasField("answered_at")
    assert not challenge.HasField("usable_until")


async def test_an_operation_that_the_configuration_lost_is_titled_by_its_id(world, worker):
    challenge_id = await worker.challenge(ALICE)
    world.sql("UPDATE challenge_items SET operation = 'forensics.dump'")
    async with calling_as(worker, rule("*")) as client:
        challenge = (await client.GetChallenge(of(pb.GetChallengeRequest, challenge_id))).challenge
    assert challenge.items[0].title == challenge.items[0].operation == "forensics.dump"


async def test_who_may_answer_reads_the_challenges_of_others(worker):
    challenge_id = await worker.challenge(ALICE)
    console = rule("ChallengeService/*")
    async with calling_as(worker, console, name="console") as client:
        for actor, same_session in ((ALICE, True), (PHONE, False)):
            got = await client.GetChallenge(of(pb.GetChallengeRequest, challenge_id, actor))
            listed = await client.ListChallenges(pb.ListChallengesRequest(actor=on_wire(actor)))
            assert [got.challenge] == list(listed.challenges)
            assert got.challenge.HasField("same_session")
            assert got.challenge.same_session is same_session
        declined = await client.DeclineChallenge(of(pb.DeclineChallengeRequest, challenge_id))
        assert declined.challenge.state == pb.CHALLENGE_STATE_DECLINED


@pytest.mark.parametrize("tenants", [["globex"], []])
async def test_s15_a_rule_to_answer_for_another_tenant_does_not_read(worker, tenants):
    challenge_id = await worker.challenge(ALICE)
    rules = rule("ChallengeService/GetChallenge"), rule(ANSWER, tenants=tenants)
    async with calling_as(worker, *rules, name="console") as client:
        refusal = await refusal_of(client.GetChallenge(of(pb.GetChallengeRequest, challenge_id)))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "CHALLENGE_STATE",
    )
    assert not refusal.details["ErrorInfo"].metadata


async def test_s15_who_may_not_answer_lists_nothing(worker):
    rules = rule("ChallengeService/ListChallenges"), rule(ANSWER, tenants=["globex"])
    request = pb.ListChallengesRequest(actor=on_wire(ALICE))
    async with calling_as(worker, *rules) as client:
        assert (await refusal_of(client.ListChallenges(request))).reason == "CALLER_NOT_PERMITTED"


CREATE, CHECK = "ChallengeService/CreateChallenge", "StepUpService/CheckStepUp"


@pytest.mark.parametrize(
    "rules",
    [
        (rule(CREATE),),
        (rule(CREATE), rule(CHECK, operations=["iam.*"])),
        (rule(CREATE), rule(CHECK, tenants=["globex"])),
        (rule(CREATE, operations=["iam.*"]), rule(CHECK)),
        (rule(CREATE, CHECK, operations=[OSQUERY]),),
        (rule(CREATE), rule("StepUpService/BatchCheckStepUp")),
    ],
)
async def test_s15_who_may_not_check_each_operation_may_not_challenge_for_it(world, worker, rules):
    request = creation(items=[{"operation": API_KEYS, "target": "keys", "label": "All keys"}])
    before = await world.state()
    async with calling_as(worker, *rules) as client:
        assert (await refusal_of(client.CreateChallenge(request))).reason == "CALLER_NOT_PERMITTED"
    assert await world.state() == before


async def test_s16_a_claim_needs_its_rule(worker):
    no_claims = Rule("rule", ALL, ALL, ALL, frozenset())
    request = creation()
    request.actor.CopyFrom(on_wire(administrator()))
    async with calling_as(worker, no_claims) as client:
        assert (await refusal_of(client.CreateChallenge(request))).reason == "CLAIM_NOT_PERMITTED"


async def test_the_users_own_refusal_has_the_state_and_others_have_none(worker):
    challenge_id = await worker.challenge(ALICE)
    await worker.cancel_challenge(ALICE, challenge_id)
    said = {}
    async with calling_as(worker, rule("*")) as client:
        for actor in (ALICE, BOB):
            call = client.DeclineChallenge(of(pb.DeclineChallengeRequest, challenge_id, actor))
            refusal = await refusal_of(call)
            assert refusal.reason == "CHALLENGE_STATE"
            said[actor.user_id] = dict(refusal.details["ErrorInfo"].metadata)
    assert said == {"alice": {"state": ChallengeState.CANCELLED.name}, "bob": {}}


async def test_only_the_creator_cancels(worker):
    challenge_id = await worker.challenge(ALICE)
    request = of(pb.CancelChallengeRequest, challenge_id)
    async with calling_as(worker, rule("*"), name="console") as client:
        assert (await refusal_of(client.CancelChallenge(request))).reason == "CHALLENGE_STATE"
    async with calling_as(worker, rule("*")) as client:
        cancelled = (await client.CancelChallenge(request)).challenge
    assert cancelled.state == pb.CHALLENGE_STATE_CANCELLED


async def test_a_limit_says_when_the_next_one_may_be_created(worker):
    async with calling_as(worker, rule("*")) as client:
        for _ in range(10):
            await client.CreateChallenge(creation())
        refusal = await refusal_of(client.CreateChallenge(creation()))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "CHALLENGE_LIMIT",
    )
    assert refusal.details["RetryInfo"].retry_delay.seconds == 60


async def test_a_request_sent_again_gets_the_first_challenge(worker):
    request = creation(request_id="6f2c1f3e-0000-4000-8000-000000000001")
    async with calling_as(worker, rule("*")) as client:
        first = await client.CreateChallenge(request)
        assert await client.CreateChallenge(request) == first
        request.message = "Another one"
        refusal = await refusal_of(client.CreateChallenge(request))
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["request_id"])
