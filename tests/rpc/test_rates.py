"""Callers that have a rate, on the wire: what counts, and how a call over the rate ends."""

from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from stepup_tests.callers import all_powerful
from stepup_tests.people import person
from stepup_tests.requests import METHODS, path_of, valid_request
from stepup_tests.wire import Client, on_wire, refusal_of, served
from stepup_tests.worker import OSQUERY

from stepup.domain.audit import EventKind
from stepup.domain.callers import Patterns
from stepup.domain.rate import Rate
from stepup.rpc.pipeline.call import AdmittedCaller
from stepup.v1 import actor_pb2, people_service_pb2
from stepup.v1 import step_up_service_pb2 as step_up

RATE = Rate(per_second=0.1, burst=2)
"""No test takes the ten seconds after which it lets one more call through."""
CHECK = path_of("CheckStepUp")
OF_SESSIONS = {path_of(f"{name}PortalSession") for name in ("Redeem", "Get", "End")}
"""Their tenant is that of a session: without one they are refused before they count."""
COUNTED = sorted(METHODS.keys() - {path_of("ListOperations")} - OF_SESSIONS)


async def admit(invocation):
    """Believe what the caller calls itself; one has no rate, and one has no rights elsewhere."""
    name = invocation.header("x-caller") or "soar"
    caller = replace(all_powerful(name), rate=None if name == "unlimited" else RATE)
    if name == "narrow":
        [rule] = caller.rules
        acme = replace(rule, tenants=Patterns(["acme"]), claims=frozenset())
        caller = replace(caller, rules=(acme,))
    return AdmittedCaller(caller, ())


@pytest.fixture
async def client(worker):
    async with served(worker, admit) as server:
        client = Client(server.target)
        yield client
        await client.close()


def a_check(operation=OSQUERY, **actor):
    return step_up.CheckStepUpRequest(actor=on_wire(person(**actor)), operation=operation)


async def ended(client, request, path=CHECK, caller="soar"):
    """The status of a call."""
    payload, metadata = request.SerializeToString(), [("x-caller", caller)]
    try:
        if METHODS[path].server_streaming:
            call = client.channel.unary_stream(f"/{path}")(payload, metadata=metadata)
            _ = [answer async for answer in call]
        else:
            await client.call(path, payload, metadata)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


OK, EXHAUSTED = grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_over_the_rate_says_when_to_come_again(client):
    for _ in range(2):
        await client.step_up.CheckStepUp(a_check())
    refusal = await refusal_of(client.step_up.CheckStepUp(a_check()))
    assert (refusal.code, refusal.reason) == (EXHAUSTED, "CALLER_RATE_LIMITED")
    assert set(refusal.details) == {"ErrorInfo", "RetryInfo"}
    delay = refusal.details["RetryInfo"].retry_delay.ToTimedelta()
    assert timedelta(seconds=5) < delay <= timedelta(seconds=10)


@pytest.mark.parametrize("path", COUNTED)
async def test_every_method_that_concerns_tenants_counts(client, path):
    request = valid_request(path.rpartition("/")[2])
    assert EXHAUSTED not in {await ended(client, request, path) for _ in range(2)}
    assert await ended(client, request, path) == EXHAUSTED


async def test_a_method_that_concerns_no_tenant_does_not_count(client):
    path = path_of("ListOperations")
    request = valid_request("ListOperations")
    assert {await ended(client, request, path) for _ in range(5)} == {OK}


async def test_methods_share_the_rate(client):
    await ended(client, valid_request("GetPolicy"), path_of("GetPolicy"))
    await ended(client, valid_request("VerifyOtp"), path_of("VerifyOtp"))
    assert await ended(client, a_check()) == EXHAUSTED


@pytest.mark.parametrize(
    ("tenant", "caller", "status"),
    [("acme", "soar", EXHAUSTED), ("umbrella", "soar", OK), ("acme", "console", OK)],
)
async def test_each_caller_has_its_rate_for_each_tenant(client, tenant, caller, status):
    for _ in range(2):
        await ended(client, a_check(), caller="soar")
    assert await ended(client, a_check(tenant=tenant), caller=caller) == status


async def test_a_batch_counts_its_operations_though_they_are_equal(client):
    batch = step_up.BatchCheckStepUpRequest(actor=on_wire(person()))
    for _ in range(2):
        batch.checks.add(operation=OSQUERY)
    assert await ended(client, batch, path_of("BatchCheckStepUp")) == OK
    assert await ended(client, a_check()) == EXHAUSTED


async def test_an_import_counts_its_entries(client):
    request = people_service_pb2.ImportAuthenticatorsRequest(
        actor={"tenant_id": "acme", "operator": {"name": "sam", "reason": "ticket 1"}},
        authenticators=[{}, {}],
    )
    await client.people.ImportAuthenticators(request)
    assert await ended(client, a_check()) == EXHAUSTED


async def test_a_caller_without_a_rate_is_not_counted(world, client):
    assert {await ended(client, a_check(), caller="unlimited") for _ in range(5)} == {OK}
    assert world.rates.asked == 0


@pytest.mark.parametrize(
    "refused",
    [a_check(tenant="umbrella"), a_check(operation="iam.unknown"), step_up.CheckStepUpRequest()],
    ids=["not permitted", "unknown operation", "malformed"],
)
async def test_what_may_not_be_asked_spends_nothing(world, client, refused):
    for _ in range(3):
        assert await ended(client, refused, caller="narrow") not in {OK, EXHAUSTED}
    assert world.rates.asked == 0
    assert await ended(client, a_check(), caller="narrow") == OK


async def test_a_refused_claim_counts_as_it_is_put_on_record(worker, client):
    request = a_check()
    request.actor.team = actor_pb2.TEAM_MANAGED_SERVICES_OPERATIONS
    statuses = [await ended(client, request, caller="narrow") for _ in range(5)]
    assert statuses == [grpc.StatusCode.PERMISSION_DENIED] * 2 + [EXHAUSTED] * 3
    assert len(await worker.events(EventKind.CLAIM_REFUSED)) == 1


async def test_a_call_over_the_rate_leaves_no_trace(world, worker, client):
    alice = person()
    app = await worker.enrol(alice)
    for _ in range(2):
        await ended(client, a_check())
    before = world.tables(), world.decisions()
    for name in ("VerifyOtp", "CheckStepUp", "RevokeElevations", "BeginEnrollment"):
        request = valid_request(name)
        request.actor.CopyFrom(on_wire(alice))
        assert await ended(client, request, path_of(name)) == EXHAUSTED
    assert (world.tables(), world.decisions()) == before
    verification = await worker.fail(alice, app)
    assert verification.attempts_remaining == 4


async def test_s17_without_redis_calls_go_on_and_still_have_a_rate(world, client):
    world.rates.works = False
    assert [await ended(client, a_check()) for _ in range(3)] == [OK, OK, EXHAUSTED]


async def test_s17_a_rate_that_cannot_be_known_grants_nothing(world, worker, client):
    await worker.select(OSQUERY)
    world.rates.works = False
    answer = await client.step_up.CheckStepUp(a_check())
    assert answer.decision == step_up.DECISION_ENROLLMENT_REQUIRED
