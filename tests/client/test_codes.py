"""`verify` resends a code whose answer was lost, as the same attempt."""

import time

import grpc
import pytest
from stepup_tests.client.either_client import either_client
from stepup_tests.client.scripted_server import RefusedError

from stepup.client import (
    ActorContext,
    NotVerified,
    RequestError,
    StateError,
    UnavailableError,
    Verified,
    rpcs,
)
from stepup.client.asynchronous import transport as asynchronous
from stepup.client.messages import step_up
from stepup.client.synchronous import transport as synchronous

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
VERIFIED = step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_VERIFIED)
VERIFIED.elevation.verified_at.FromSeconds(1_800_000_000)
VERIFIED.elevation.expires_at.FromSeconds(1_800_000_900)
LOST = RefusedError(grpc.StatusCode.UNAVAILABLE)
UNDER_WAY = RefusedError(grpc.StatusCode.ABORTED, "REQUEST_UNDER_WAY", retry_after=0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for transport in (asynchronous, synchronous):
        monkeypatch.setattr(transport, "_FIRST_PAUSE", 0.01)


def ids(server):
    return [request.request_id for request in server.requests(rpcs.VERIFY_OTP)]


async def test_a_right_code_elevates(stepup, server):
    server.script(rpcs.VERIFY_OTP, VERIFIED)
    verified = await stepup.verify(ACTOR, "123 456\n")
    assert isinstance(verified, Verified)
    assert (verified.expires_at - verified.verified_at).total_seconds() == 900
    [request] = server.requests(rpcs.VERIFY_OTP)
    assert request.code == "123456"
    assert request.actor == ACTOR


@pytest.mark.parametrize(
    "lost", [LOST, UNDER_WAY, RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED)], ids=repr
)
async def test_a_lost_answer_is_fetched_with_the_same_id(stepup, server, lost):
    server.script(rpcs.VERIFY_OTP, lost, lost, VERIFIED)
    assert isinstance(await stepup.verify(ACTOR, "123456"), Verified)
    assert len(ids(server)) == 3
    assert len(set(ids(server))) == 1


async def test_a_server_that_freezes_leaves_time_for_another_attempt(kind, server):
    def freeze(_request, context):
        while context.is_active():
            time.sleep(0.01)
        return VERIFIED

    server.script(rpcs.VERIFY_OTP, freeze, VERIFIED)
    async with either_client(kind, server.address, timeout=0.6) as stepup:
        assert isinstance(await stepup.verify(ACTOR, "123456"), Verified)
    assert len(set(ids(server))) == 1
    assert server.seconds_left[0] < 0.4


async def test_each_code_is_a_request_of_its_own(stepup, server):
    server.script(rpcs.VERIFY_OTP, VERIFIED)
    await stepup.verify(ACTOR, "123456")
    await stepup.verify(ACTOR, "123456")
    first, second = ids(server)
    assert first != second


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (RefusedError(grpc.StatusCode.INVALID_ARGUMENT), RequestError),
        (RefusedError(grpc.StatusCode.PERMISSION_DENIED), RequestError),
        (RefusedError(grpc.StatusCode.ABORTED), StateError),
        (RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED), UnavailableError),
    ],
)
async def test_a_refusal_is_not_resent(stepup, server, refusal, error):
    server.script(rpcs.VERIFY_OTP, refusal)
    with pytest.raises(error):
        await stepup.verify(ACTOR, "123456")
    assert len(ids(server)) == 1


async def test_resends_end_with_the_deadline(kind, server):
    server.script(rpcs.VERIFY_OTP, LOST)
    async with either_client(kind, server.address, timeout=0.2) as stepup:
        with pytest.raises(UnavailableError):
            await stepup.verify(ACTOR, "123456")
    assert 2 <= len(ids(server)) <= 10


async def test_no_code_is_resent_when_its_record_may_be_gone(kind, server, monkeypatch):
    """After a minute the same id would be another attempt."""
    for transport in (asynchronous, synchronous):
        assert transport._RESEND_FOR < 60  # noqa: SLF001  # the server's record lasts a minute
        monkeypatch.setattr(transport, "_RESEND_FOR", 0.0)
    server.script(rpcs.VERIFY_OTP, LOST, VERIFIED)
    async with either_client(kind, server.address, timeout=100) as stepup:
        with pytest.raises(UnavailableError):
            await stepup.verify(ACTOR, "123456")


async def test_a_delay_of_the_server_is_kept(kind, server):
    later = RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", retry_after=30)
    server.script(rpcs.VERIFY_OTP, later, VERIFIED)
    async with either_client(kind, server.address, timeout=5) as stepup:
        with pytest.raises(UnavailableError):
            await stepup.verify(ACTOR, "123456")
    assert len(ids(server)) == 1


async def test_a_code_that_elevates_nothing_says_what_helps(stepup, server):
    rejected = step_up.VerifyOtpResponse(
        outcome=step_up.OUTCOME_REJECTED, attempts_remaining=4, next_code_after={"seconds": 12}
    )
    server.script(rpcs.VERIFY_OTP, rejected)
    answer = await stepup.verify(ACTOR, "123456")
    assert isinstance(answer, NotVerified)
    assert (answer.outcome, answer.attempts_remaining) == ("REJECTED", 4)
    assert answer.next_code_after.total_seconds() == 12
    assert answer.retry_after is None
