"""`approve` creates or finds a challenge, shows it, and waits for the person."""

import asyncio
from datetime import timedelta

import grpc
import pytest
from stepup_tests.client.scripted_server import RefusedError

from stepup.client import (
    ActorContext,
    AnswerError,
    NewChallengeItem,
    NotApprovedError,
    RequestError,
    UnavailableError,
    rpcs,
)
from stepup.client.asynchronous import approvals as asynchronous
from stepup.client.messages import challenge
from stepup.client.synchronous import approvals as synchronous

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
SHELL = "response.start_remote_shell"
ITEM = NewChallengeItem(operation=SHELL, target="host-7", label="Mail server")
PENDING, APPROVED, DECLINED, CANCELLED, EXPIRED = range(1, 6)
CUT = RefusedError(grpc.StatusCode.UNAVAILABLE, "DRAINING")


def described(state, *, target="host-7", used=False, lifetime=600):
    item = challenge.ChallengeItem(operation=SHELL, target=target)
    if used:
        item.used_at.FromSeconds(1)
    described = challenge.Challenge(
        challenge_id="an-id", state=state, items=[item], portal_url="https://portal/an-id"
    )
    described.create_time.FromSeconds(1_800_000_000)
    described.expires_at.FromSeconds(1_800_000_000 + lifetime)
    described.usable_until.FromSeconds(1_800_001_000)
    return described


def created(state, **options):
    return challenge.CreateChallengeResponse(challenge=described(state, **options))


def found(state, **options):
    return challenge.GetChallengeResponse(challenge=described(state, **options))


def states(*entries):
    """The messages of one wait."""
    return [
        each
        if isinstance(each, Exception)
        else challenge.AwaitChallengeResponse(challenge=described(each))
        for each in entries
    ]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "_PAUSE", 0.01)


@pytest.fixture
def asked(server):
    server.script(rpcs.CREATE_CHALLENGE, created(PENDING))
    return server


def approve(stepup, **options):
    return stepup.approve(ACTOR, [ITEM], "Look into incident 7", **options)


async def test_an_approval_has_the_id_for_the_checks(stepup, asked):
    asked.script(rpcs.AWAIT_CHALLENGE, states(PENDING, PENDING, APPROVED))
    approved = await approve(stepup, valid_for=timedelta(minutes=30))
    assert approved.challenge_id == "an-id"
    assert approved.usable_until.timestamp() == 1_800_001_000
    [request] = asked.requests(rpcs.CREATE_CHALLENGE)
    assert (request.message, list(request.items)) == ("Look into incident 7", [ITEM])
    assert request.valid_for.seconds == 1800
    assert request.request_id
    assert not request.HasField("expires_in")


async def test_the_person_is_shown_the_challenge_once(stepup, asked):
    asked.script(rpcs.AWAIT_CHALLENGE, states(PENDING, CUT), states(APPROVED))
    shown = []
    await approve(stepup, show=shown.append)
    [seen] = shown
    assert seen.portal_url == "https://portal/an-id"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_only_the_asynchronous_client_takes_an_asynchronous_function(stepup, asked):
    asked.script(rpcs.AWAIT_CHALLENGE, states(APPROVED))
    shown = []

    async def show(challenge):
        shown.append(challenge)

    if stepup.is_async:
        await approve(stepup, show=show)
        assert shown
    else:
        with pytest.raises(TypeError, match="AsyncStepUpClient"):
            await approve(stepup, show=show)


@pytest.mark.parametrize(
    ("state", "name"), [(DECLINED, "DECLINED"), (CANCELLED, "CANCELLED"), (EXPIRED, "EXPIRED")]
)
async def test_a_challenge_that_ends_otherwise_is_an_error(stepup, asked, state, name):
    asked.script(rpcs.AWAIT_CHALLENGE, states(PENDING, state))
    with pytest.raises(NotApprovedError) as raised:
        await approve(stepup)
    assert raised.value.state == raised.value.reason == name
    assert raised.value.challenge.challenge_id == "an-id"
    assert not raised.value.retryable


@pytest.mark.parametrize("state", [0, 6, -1])
async def test_an_unknown_state_is_not_an_approval(stepup, asked, state):
    asked.script(rpcs.AWAIT_CHALLENGE, states(PENDING, state))
    with pytest.raises(AnswerError):
        await approve(stepup)


@pytest.mark.parametrize(
    "cut",
    [
        states(PENDING, CUT),
        states(CUT),
        states(RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "WAITING_LIMIT", retry_after=0.01)),
        states(PENDING),  # a proxy ended the stream
        states(),
    ],
    ids=["cut while pending", "cut at once", "too many waits", "ended early", "ended at once"],
)
async def test_a_wait_that_is_cut_begins_again(stepup, asked, cut):
    asked.script(rpcs.AWAIT_CHALLENGE, cut, cut, states(PENDING, APPROVED))
    approved = await approve(stepup)
    assert approved.challenge_id == "an-id"
    assert len(asked.requests(rpcs.AWAIT_CHALLENGE)) == 3


async def test_a_wait_that_the_server_refuses_ends(stepup, asked):
    asked.script(rpcs.AWAIT_CHALLENGE, states(RefusedError(grpc.StatusCode.PERMISSION_DENIED)))
    with pytest.raises(RequestError):
        await approve(stepup)


async def test_a_person_who_does_not_answer_in_time_has_not_approved(stepup, asked):
    asked.script(rpcs.AWAIT_CHALLENGE, states(PENDING))
    with pytest.raises(NotApprovedError) as raised:
        await approve(stepup, timeout=0.1)
    assert raised.value.state == "PENDING"


async def test_a_wait_has_a_deadline_after_the_end_of_the_challenge(stepup, asked):
    asked.script(rpcs.CREATE_CHALLENGE, created(PENDING, lifetime=30))
    asked.script(rpcs.AWAIT_CHALLENGE, states(APPROVED))
    await approve(stepup)
    _, seconds = asked.seconds_left
    assert seconds == pytest.approx(40, abs=2)


async def test_a_challenge_is_created_once_though_the_answer_was_lost(stepup, server):
    server.script(rpcs.CREATE_CHALLENGE, CUT, created(PENDING))
    server.script(rpcs.AWAIT_CHALLENGE, states(APPROVED))
    await approve(stepup)
    first, second = server.requests(rpcs.CREATE_CHALLENGE)
    assert first == second


async def test_no_challenge_is_no_approval(stepup, server):
    server.script(rpcs.CREATE_CHALLENGE, RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED))
    with pytest.raises(UnavailableError):
        await approve(stepup)


@pytest.mark.parametrize("state", [PENDING, APPROVED])
async def test_an_earlier_challenge_is_used(stepup, asked, state):
    asked.script(rpcs.GET_CHALLENGE, found(state))
    asked.script(rpcs.AWAIT_CHALLENGE, states(APPROVED))
    shown = []
    approved = await approve(stepup, challenge_id="an-id", show=shown.append)
    assert approved.challenge_id == "an-id"
    assert not asked.requests(rpcs.CREATE_CHALLENGE)
    assert len(shown) == (state == PENDING)
    assert len(asked.requests(rpcs.AWAIT_CHALLENGE)) == (state == PENDING)


@pytest.mark.parametrize(
    "earlier",
    [
        found(DECLINED),
        found(EXPIRED),
        found(APPROVED, used=True),
        found(PENDING, target="host-8"),
        RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "CHALLENGE_STATE"),
    ],
    ids=["declined", "expired", "used", "other actions", "unknown"],
)
async def test_an_earlier_challenge_that_does_not_serve_is_replaced(stepup, asked, earlier):
    asked.script(rpcs.GET_CHALLENGE, earlier)
    asked.script(rpcs.AWAIT_CHALLENGE, states(APPROVED))
    await approve(stepup, challenge_id="an-old-id")
    assert len(asked.requests(rpcs.CREATE_CHALLENGE)) == 1


async def test_an_earlier_challenge_that_cannot_be_read_is_not_replaced(stepup, asked):
    asked.script(rpcs.GET_CHALLENGE, CUT)
    with pytest.raises(UnavailableError):
        await approve(stepup, challenge_id="an-id")
    assert not asked.requests(rpcs.CREATE_CHALLENGE)


async def test_waits_have_connections_of_their_own(stepup, asked, monkeypatch):
    """A server takes 100 calls on a connection: waits must not fill that of the checks."""
    for module in (asynchronous, synchronous):
        monkeypatch.setattr(module, "_WAITS_PER_CONNECTION", 2)
    peers = {"waits": [], "checks": []}

    def create(_request, context):
        peers["checks"].append(context.peer())
        return created(PENDING)

    def wait(_request, context):
        peers["waits"].append(context.peer())
        while len(peers["waits"]) < 4:
            yield from states(PENDING)
        yield from states(APPROVED)

    asked.script(rpcs.CREATE_CHALLENGE, create)
    asked.script(rpcs.AWAIT_CHALLENGE, wait)
    await asyncio.gather(*(approve(stepup) for _ in range(4)))
    assert len(set(peers["waits"])) == 2
    assert not set(peers["waits"]) & set(peers["checks"])
    await approve(stepup)
    assert len(set(peers["waits"])) == 2, "a connection is used again"
