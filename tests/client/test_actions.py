"""An action as a block: the block runs only if it may, and its retry presents a receipt."""

import asyncio
import concurrent.futures

import grpc
import pytest
from stepup_tests.client.scripted_server import RefusedError

from stepup.client import ActorContext, NotAllowedError, UnavailableError, rpcs
from stepup.client.asynchronous import action as asynchronous
from stepup.client.messages import step_up
from stepup.client.synchronous import action as synchronous

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
OPERATION = "response.run_osquery"
REFUSED = step_up.CheckStepUpResponse(
    decision=step_up.DECISION_STEP_UP_REQUIRED, reason=step_up.DECISION_REASON_NOT_ELEVATED
)
LOST = RefusedError(grpc.StatusCode.UNAVAILABLE)


def allowed(receipt):
    return step_up.CheckStepUpResponse(
        decision=step_up.DECISION_ALLOWED,
        reason=step_up.DECISION_REASON_ELEVATED,
        receipt=receipt,
    )


def presented(server):
    return [request.actor.retry_receipt for request in server.requests(rpcs.CHECK_STEP_UP)]


def ids(server):
    return [request.request_id for request in server.requests(rpcs.CHECK_STEP_UP)]


def raising(error):
    def body():
        raise error

    return body


def nothing():
    pass


@pytest.fixture
def action(stepup):
    return stepup.client.action(ACTOR, OPERATION, target="host-7")


async def time_out(stepup, action, error=TimeoutError):
    with pytest.raises(error):
        await stepup.run(action, raising(error("too slow")))


async def test_a_retry_of_a_timed_out_action_presents_the_receipt(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"), allowed("second"), allowed("third"))
    await time_out(stepup, action)
    await time_out(stepup, action)
    await stepup.run(action, nothing)
    assert presented(server) == ["", "first", "second"]
    assert len(set(ids(server))) == 3
    assert {request.target for request in server.requests(rpcs.CHECK_STEP_UP)} == {"host-7"}


@pytest.mark.parametrize("error", [asyncio.TimeoutError, concurrent.futures.TimeoutError])
async def test_every_time_out_of_python_counts(stepup, server, action, error):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"))
    await time_out(stepup, action, error)
    assert action.receipt == "first"


async def test_an_action_that_ended_otherwise_presents_nothing(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"))
    await stepup.run(action, nothing)
    with pytest.raises(OSError, match="broken"):
        await stepup.run(action, raising(OSError("broken")))
    await stepup.run(action, nothing)
    assert presented(server) == ["", "", ""]
    assert action.receipt == ""


async def test_further_errors_may_mean_that_it_timed_out(stepup, server):
    class AgentTimedOutError(Exception):
        pass

    server.script(rpcs.CHECK_STEP_UP, allowed("first"))
    action = stepup.client.action(ACTOR, OPERATION, timed_out=(AgentTimedOutError,))
    await time_out(stepup, action, AgentTimedOutError)
    assert action.receipt == "first"


async def test_the_block_may_say_that_it_timed_out(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"))
    await stepup.run(action, action.keep_receipt)
    assert action.receipt == "first"


async def test_another_process_presents_the_receipt_that_the_first_one_kept(stepup, server):
    server.script(rpcs.CHECK_STEP_UP, allowed("second"))
    action = stepup.client.action(ACTOR, OPERATION, receipt="kept")
    await stepup.run(action, nothing)
    assert presented(server) == ["kept"]
    assert ACTOR.retry_receipt == ""


async def test_a_lost_answer_burns_no_receipt(stepup, server, action):
    """The next try is the same request to the server, which shares the redemption."""
    server.script(rpcs.CHECK_STEP_UP, allowed("first"), LOST, allowed("second"))
    await time_out(stepup, action)
    with pytest.raises(UnavailableError):
        await stepup.run(action, nothing)
    await stepup.run(action, nothing)
    assert presented(server) == ["", "first", "first"]
    first, lost, again = ids(server)
    assert first != lost == again


async def test_an_old_id_is_not_used_for_another_request(stepup, server, action, monkeypatch):
    for module in (asynchronous, synchronous):
        assert module._SAME_REQUEST_FOR < 60  # noqa: SLF001  # the server's record lasts a minute
        monkeypatch.setattr(module, "_SAME_REQUEST_FOR", -1.0)
    server.script(rpcs.CHECK_STEP_UP, LOST, allowed("first"))
    with pytest.raises(UnavailableError):
        await stepup.run(action, nothing)
    await stepup.run(action, nothing)
    lost, again = ids(server)
    assert lost != again


async def test_an_action_that_is_not_allowed_does_not_run(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, REFUSED, allowed("first"))
    ran = []
    with pytest.raises(NotAllowedError) as raised:
        await stepup.run(action, lambda: ran.append(1))
    assert raised.value.answer.reason == "NOT_ELEVATED"
    assert not ran
    await stepup.run(action, lambda: ran.append(2))
    assert ran == [2]


async def test_an_object_is_one_action_at_a_time(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"))

    async def twice():
        async with action, action:
            pass

    def twice_in_a_thread():
        with action, action:
            pass

    with pytest.raises(RuntimeError, match="is running"):
        await (twice() if stepup.is_async else asyncio.to_thread(twice_in_a_thread))
    await stepup.run(action, nothing)


async def test_the_answer_belongs_to_its_block(stepup, server, action):
    server.script(rpcs.CHECK_STEP_UP, allowed("first"))
    seen = []
    await stepup.run(action, lambda: seen.append(action.allowed.reason))
    assert seen == ["ELEVATED"]
    with pytest.raises(RuntimeError, match="outside"):
        _ = action.allowed
