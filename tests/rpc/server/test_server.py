"""The server: what it listens on, what it says of itself, how it starts and stops."""

import asyncio
import socket
from dataclasses import fields, replace

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from stepup_tests.engines import engine_under_test
from stepup_tests.people import person
from stepup_tests.wire import ALL_WELL, Client, on_wire, pipeline_of, refusal_of, served

from stepup.rpc.engine import Invocation
from stepup.rpc.server.server import Server
from stepup.service.upkeep.dependencies import Condition
from stepup.system.loopback import is_loopback
from stepup.v1 import challenge_service_pb2 as challenge
from stepup.v1 import policy_service_pb2 as policy
from stepup.wiring.credentials import LOCAL, admit_local_caller

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
OURS = [
    "stepup.v1.StepUpService",
    "stepup.v1.ChallengeService",
    "stepup.v1.EnrollmentService",
    "stepup.v1.PeopleService",
    "stepup.v1.PolicyService",
    "stepup.v1.AuditService",
    "stepup.v1.PortalService",
]
PORTAL = "stepup.v1.PortalService"
VERIFY_OTP = "stepup.v1.StepUpService/VerifyOtp"
WRITERS = {
    f"stepup.v1.{name}"
    for name in (
        *("ChallengeService", "EnrollmentService", "PeopleService", "PolicyService"),
        "PortalService",
    )
}
PARTS = [
    *("sql", "redis", "sql_writes", "redis_writes", "decision_log"),
    *("certificate", "token_issuers"),
]
NAMES = ["", *OURS, VERIFY_OTP, *PARTS]


@pytest.fixture
async def server(worker):
    server = Server(
        pipeline_of(worker),
        worker.application.handlers,
        engine_under_test(),
    )
    yield server
    await server.stop(0)


async def health_of(client, service):
    stub = health_pb2_grpc.HealthStub(client.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


@pytest.fixture
async def started(server):
    port = await server.start("127.0.0.1", 0)
    client = Client(f"127.0.0.1:{port}")
    yield client
    await client.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104  # refused is the point
        ("::", False),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("localhost.example.com", False),
        ("stepup", False),
        ("", False),
    ],
)
def test_s15_only_an_address_of_this_machine_is_loopback(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "stepup"])  # noqa: S104
async def test_s15_without_credentials_no_other_address_is_listened_on(server, host):
    with pytest.raises(ValueError, match="not a loopback address"):
        await server.start(host, 0)


async def test_s15_where_everybody_is_trusted_another_address_is_listened_on(worker):
    handlers = worker.application.handlers
    server = Server(pipeline_of(worker), handlers, engine_under_test(), trusts_anyone=True)
    assert await server.start("0.0.0.0", 0)  # noqa: S104  # its subject
    await server.stop(0)


async def test_the_loopback_address_of_ipv6_is_listened_on(server):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    client = Client(f"[::1]:{await server.start('::1', 0)}")
    await client.policy.ListOperations(policy.ListOperationsRequest())
    await client.close()


async def test_whoever_reaches_loopback_is_the_local_caller():
    assert await admit_local_caller(Invocation("ipv4:127.0.0.1:1")) is LOCAL


async def test_a_server_that_has_started_is_not_serving_yet(started):
    assert {await health_of(started, name) for name in NAMES} == {NOT_SERVING}


NOTHING_WORKS = Condition(**{each.name: False for each in fields(Condition)})


async def test_a_server_can_cease_to_serve_and_serve_again(server, started):
    for condition, status in ((ALL_WELL, SERVING), (NOTHING_WORKS, NOT_SERVING)) * 2:
        await server.report(condition)
        assert {await health_of(started, name) for name in NAMES} == {status}


@pytest.mark.parametrize(
    ("lost", "ceased"),
    [
        ({"redis": False}, {"redis", VERIFY_OTP, PORTAL}),
        ({"redis_writes": False}, {"redis_writes", VERIFY_OTP, PORTAL}),
        ({"sql": False}, {"sql", VERIFY_OTP, *OURS} - {"stepup.v1.StepUpService"}),
        ({"sql": False, "decides": False}, {"sql", "", VERIFY_OTP, *OURS}),
        ({"sql_writes": False}, {"sql_writes", VERIFY_OTP, *WRITERS}),
        (
            {"decision_log": False, "decides": False},
            {"decision_log", "", "stepup.v1.StepUpService"},
        ),
        ({"token_issuers": False}, {"token_issuers"}),
        (
            {"token_issuers": False, "admits": False},
            {"token_issuers", "", VERIFY_OTP, *OURS},
        ),
        ({"certificate": False, "admits": False}, {"certificate", "", VERIFY_OTP, *OURS}),
    ],
    ids=[
        *("redis", "redis writes", "sql for a moment", "sql", "sql writes", "decision log"),
        *("keys of an issuer", "keys of all issuers", "certificate"),
    ],
)
async def test_s17_health_says_what_a_loss_takes_along(server, started, lost, ceased):
    await server.report(replace(ALL_WELL, **lost))
    assert {name for name in NAMES if await health_of(started, name) == NOT_SERVING} == ceased
    assert server.serving == set(NAMES) - ceased


@pytest.mark.parametrize("service", ["", VERIFY_OTP])
async def test_who_watches_health_hears_that_the_server_stops(server, started, service):
    await server.report(ALL_WELL)
    stub = health_pb2_grpc.HealthStub(started.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
    assert (await watch.read()).status == SERVING
    stopping = asyncio.create_task(server.stop(5))
    assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
    await stopping


async def test_all_of_health_is_listed(server, started):
    await server.report(replace(ALL_WELL, sql_writes=False))
    listed = await health_pb2_grpc.HealthStub(started.channel).List(health_pb2.HealthListRequest())
    assert {name: each.status for name, each in listed.statuses.items()} == {
        name: await health_of(started, name) for name in NAMES
    }
    assert {each.status for each in listed.statuses.values()} == {SERVING, NOT_SERVING}


async def test_an_unknown_service_is_not_found(started):
    refusal = await refusal_of(health_of(started, "stepup.v1.NoService"))
    assert refusal.code is grpc.StatusCode.NOT_FOUND


REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


@pytest.fixture(params=REFLECTIONS)
def reflected(request, started):
    """Ask a version of reflection; their messages differ in the name of their package only."""

    async def reflected(**question):
        call = started.channel.stream_stream(
            f"/{request.param}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )()
        await call.write(reflection_pb2.ServerReflectionRequest(**question))
        answer = await call.read()
        await call.done_writing()
        return answer

    return reflected


async def test_reflection_lists_all_services(reflected):
    answer = await reflected(list_services="")
    assert {service.name for service in answer.list_services_response.service} == {
        *OURS,
        "grpc.health.v1.Health",
        *REFLECTIONS,
    }


@pytest.mark.parametrize("service", [*OURS, "grpc.health.v1.Health", *REFLECTIONS])
async def test_reflection_knows_what_it_lists(reflected, service):
    answer = await reflected(file_containing_symbol=service)
    files = map(
        FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto
    )
    assert service in {f"{file.package}.{each.name}" for file in files for each in file.service}


async def wait_of(client, challenge_id):
    """A call of AwaitChallenge that has got the pending challenge."""
    call = client.challenge.AwaitChallenge(
        challenge.AwaitChallengeRequest(actor=on_wire(person()), challenge_id=str(challenge_id))
    )
    assert (await call.read()).challenge.state == challenge.CHALLENGE_STATE_PENDING
    return call


async def test_a_wait_gets_the_answer_over_the_api(worker, started):
    challenge_id = await worker.challenge(person(), caller=LOCAL.caller.caller_id)
    call = await wait_of(started, challenge_id)
    await worker.decline(person(), challenge_id)
    answer = await call.read()
    assert answer.challenge.state == challenge.CHALLENGE_STATE_DECLINED
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stop_ends_waits_at_once_and_a_client_waits_elsewhere(
    world, worker, started, server
):
    challenge_id = await worker.challenge(person(), caller=LOCAL.caller.caller_id)
    call = await wait_of(started, challenge_id)
    async with asyncio.timeout(10):
        stopping = asyncio.create_task(server.stop(60))
        refused = await refusal_of(call.read())
        await stopping
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    other = await world.worker()
    async with served(other) as elsewhere:
        client = Client(elsewhere.target)
        call = await wait_of(client, challenge_id)
        await other.decline(person(), challenge_id)
        answer = await call.read()
        assert answer.challenge.state == challenge.CHALLENGE_STATE_DECLINED
        await client.close()
