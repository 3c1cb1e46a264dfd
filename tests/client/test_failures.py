"""Whatever fails between a program and the server, the action does not run."""

import asyncio
import socket
import sys
import time
from datetime import timedelta

import grpc
import pytest
from stepup_tests.client.either_client import either_client
from stepup_tests.client.scripted_server import NO_RESENDS, RefusedError
from stepup_tests.cutting_proxy import cutting_proxy

from stepup.client import (
    ActorContext,
    AnswerError,
    AsyncStepUpClient,
    NotAllowedError,
    OperationCheck,
    RequestError,
    StateError,
    StepUpError,
    UnavailableError,
    rpcs,
)
from stepup.client.messages import step_up

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
OPERATION = "response.run_osquery"
ALLOWED = step_up.CheckStepUpResponse(
    decision=step_up.DECISION_ALLOWED, reason=step_up.DECISION_REASON_ELEVATED
)


def answer(decision, reason):
    return step_up.CheckStepUpResponse(decision=decision, reason=reason)


def batch(*decisions):
    return step_up.BatchCheckStepUpResponse(decisions=decisions)


async def demand_that_nothing_runs(stepup, error):
    """Try all ways to run an action."""
    ran = []
    with pytest.raises(error):
        await stepup.require(ACTOR, OPERATION)
    with pytest.raises(error):
        await stepup.run(stepup.client.action(ACTOR, OPERATION), lambda: ran.append(1))
    with pytest.raises(StepUpError):
        await stepup.check_many(ACTOR, [OperationCheck(operation=OPERATION)])
    assert not ran


async def test_the_action_runs_after_allowed_and_only_then(stepup, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    ran = []
    await stepup.run(stepup.client.action(ACTOR, OPERATION), lambda: ran.append(1))
    assert ran == [1]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        pytest.param(answer(0, 0), AnswerError, id="unspecified"),
        pytest.param(answer(0, 6), AnswerError, id="no decision"),
        pytest.param(answer(1, 0), AnswerError, id="allowed without a reason"),
        pytest.param(answer(1, 99), AnswerError, id="allowed for an unknown reason"),
        pytest.param(answer(1, 9), AnswerError, id="allowed for a reason of a refusal"),
        pytest.param(answer(99, 6), AnswerError, id="an unknown decision"),
        pytest.param(answer(2, 9), NotAllowedError, id="step-up required"),
        pytest.param(answer(3, 8), NotAllowedError, id="enrollment required"),
        pytest.param(b"", AnswerError, id="an empty response"),
        pytest.param(b"\xff\xff\xff", AnswerError, id="bytes that are not a message"),
        pytest.param(RefusedError(grpc.StatusCode.UNAVAILABLE), UnavailableError, id="unavailable"),
        pytest.param(RefusedError(grpc.StatusCode.CANCELLED), UnavailableError, id="cancelled"),
        pytest.param(RefusedError(grpc.StatusCode.INTERNAL), AnswerError, id="a bug"),
        pytest.param(RefusedError(grpc.StatusCode.UNKNOWN), AnswerError, id="unknown"),
        pytest.param(RefusedError(grpc.StatusCode.DATA_LOSS), AnswerError, id="data loss"),
        pytest.param(RuntimeError("a bug"), AnswerError, id="an exception"),
        pytest.param(
            RefusedError(grpc.StatusCode.INVALID_ARGUMENT), RequestError, id="bad request"
        ),
        pytest.param(RefusedError(grpc.StatusCode.PERMISSION_DENIED), RequestError, id="forbidden"),
        pytest.param(RefusedError(grpc.StatusCode.FAILED_PRECONDITION), StateError, id="state"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_no_other_answer_runs_the_action(stepup, server, response, error):
    server.script(rpcs.CHECK_STEP_UP, response)
    server.script(
        rpcs.BATCH_CHECK_STEP_UP,
        batch(response) if isinstance(response, step_up.CheckStepUpResponse) else response,
    )
    expected = error
    ran = []
    with pytest.raises(expected):
        await stepup.require(ACTOR, OPERATION)
    with pytest.raises(expected):
        await stepup.run(stepup.client.action(ACTOR, OPERATION), lambda: ran.append(1))
    checks = [OperationCheck(operation=OPERATION)]
    if error is NotAllowedError:
        [only] = await stepup.check_many(ACTOR, checks)
        assert type(only).__name__ in {"StepUpRequired", "EnrollmentRequired"}
    else:
        with pytest.raises(expected):
            await stepup.check_many(ACTOR, checks)
    assert not ran


@pytest.mark.parametrize("decisions", [[], [ALLOWED], [ALLOWED] * 3])
async def test_a_batch_needs_an_answer_for_each_check(stepup, server, decisions):
    server.script(rpcs.BATCH_CHECK_STEP_UP, batch(*decisions))
    checks = [OperationCheck(operation=OPERATION, target=target) for target in ("a", "b")]
    with pytest.raises(AnswerError, match="of 2 checks"):
        await stepup.check_many(ACTOR, checks)


async def test_a_frozen_server_lets_nothing_run(kind):
    """It takes connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        async with either_client(kind, address, timeout=0.2, options=NO_RESENDS) as stepup:
            begun_at = time.monotonic()
            await demand_that_nothing_runs(stepup, UnavailableError)
            assert time.monotonic() - begun_at < 5


async def test_a_server_that_freezes_in_a_call_lets_nothing_run(kind, server):
    def freeze(_request, context):
        while context.is_active():
            time.sleep(0.01)
        return ALLOWED

    server.script(rpcs.CHECK_STEP_UP, freeze)
    server.script(rpcs.BATCH_CHECK_STEP_UP, freeze)
    async with either_client(kind, server.address, timeout=0.2, options=NO_RESENDS) as stepup:
        await demand_that_nothing_runs(stepup, UnavailableError)


async def test_no_server_lets_nothing_run(kind):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    async with either_client(kind, address, timeout=2, options=NO_RESENDS) as stepup:
        await demand_that_nothing_runs(stepup, UnavailableError)


async def test_a_cut_connection_lets_nothing_run(kind, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    server.script(rpcs.BATCH_CHECK_STEP_UP, batch(ALLOWED))
    async with cutting_proxy(server.address) as (proxy, port):
        proxy.cuts = 100
        async with either_client(
            kind, f"127.0.0.1:{port}", timeout=2, options=NO_RESENDS
        ) as stepup:
            await demand_that_nothing_runs(stepup, UnavailableError)
    assert proxy.has_cut


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know who cancels")
async def test_a_client_that_is_closed_during_a_call_raises_an_error_of_its_own():
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        stepup = AsyncStepUpClient(f"127.0.0.1:{frozen.getsockname()[1]}", wait_for_ready=True)
        call = asyncio.create_task(stepup.check(ACTOR, OPERATION))
        await asyncio.sleep(0.05)
        await stepup.close()
        with pytest.raises(UnavailableError, match="closed during the call"):
            await call


async def test_a_cancelled_call_stays_cancelled():
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        async with AsyncStepUpClient(address, wait_for_ready=True) as stepup:
            call = asyncio.create_task(stepup.check(ACTOR, OPERATION))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_a_closed_client_lets_nothing_run(kind, server):
    async with either_client(kind, server.address) as stepup:
        pass
    await demand_that_nothing_runs(stepup, UnavailableError)


async def test_a_call_that_cannot_be_sent_lets_nothing_run(stepup):
    with pytest.raises(RequestError):
        await stepup.require(ACTOR, OPERATION, metadata=[("key", 3)])


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 86_401])
async def test_no_call_waits_for_ever(kind, stepup, seconds):
    with pytest.raises(ValueError, match="timeout"):
        await stepup.check(ACTOR, OPERATION, timeout=seconds)
    with pytest.raises(ValueError, match="timeout"):
        async with either_client(kind, "127.0.0.1:1", timeout=seconds):
            pass


async def test_every_call_has_a_deadline(stepup, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    await stepup.check(ACTOR, OPERATION)
    await stepup.check(ACTOR, OPERATION, timeout=60)
    default, given = server.seconds_left
    assert default == pytest.approx(5, abs=2)
    assert given == pytest.approx(60, abs=2)


async def test_an_error_has_what_a_program_can_act_on(stepup, server):
    server.script(
        rpcs.CHECK_STEP_UP,
        RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", field="actor.user_id"),
        RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_RATE_LIMITED", retry_after=1.5),
        RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "ELEVATION_REQUIRED", details={"a": "b"}),
        RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED),
    )
    errors = []
    for _ in range(4):
        with pytest.raises(StepUpError) as raised:
            await stepup.check(ACTOR, OPERATION)
        errors.append(raised.value)
    field, rate, state, full = errors
    assert (field.code, field.reason, field.field) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELD",
        "actor.user_id",
    )
    assert (field.retryable, field.retry_after) == (False, None)
    assert (rate.retryable, rate.retry_after) == (True, timedelta(seconds=1.5))
    assert isinstance(rate, UnavailableError)
    assert dict(state.details) == {"a": "b"}
    assert not full.retryable
    assert all(isinstance(error.__cause__, grpc.RpcError) for error in errors)
    assert not any(isinstance(error, grpc.RpcError) for error in errors)


async def test_details_that_cannot_be_read_leave_the_status(stepup, server):
    def garbage(_request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    server.script(rpcs.CHECK_STEP_UP, garbage)
    with pytest.raises(UnavailableError) as raised:
        await stepup.check(ACTOR, OPERATION, timeout=2)
    assert (raised.value.reason, raised.value.retryable) == ("", True)


@pytest.mark.parametrize("presented", ["receipt", "challenge_id"])
async def test_a_check_that_can_use_something_up_is_resent_as_the_same_request(
    kind, server, presented
):
    unavailable = RefusedError(grpc.StatusCode.UNAVAILABLE)
    server.script(rpcs.CHECK_STEP_UP, unavailable, unavailable, ALLOWED)
    async with either_client(kind, server.address) as stepup:
        await stepup.require(ACTOR, OPERATION, **{presented: "kept"})
        await stepup.require(ACTOR, OPERATION, **{presented: "kept"})
    first, second, third, other = (
        request.request_id for request in server.requests(rpcs.CHECK_STEP_UP)
    )
    assert first == second == third != other != ""
    assert not ACTOR.retry_receipt
    assert not ACTOR.challenge_id


async def test_a_text_that_is_not_unicode_is_an_error(stepup):
    with pytest.raises((StepUpError, ValueError)):
        await stepup.require(ACTOR, "\ud800")
