"""deploy/envoy/envoy.yaml in a real Envoy, before real servers that share their stores."""

import json
import socket
import ssl
import struct
import time
from base64 import b64encode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2
from stepup_tests.e2e.envoy import CERTIFICATE, in_front_of
from stepup_tests.e2e.guarded import SERVERS, TokenIssuer, configured
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.engine import http2
from stepup_tests.stubs import connect, reason

from stepup.client import SERVICE_CONFIG
from stepup.client.messages import actor, step_up
from stepup.rpc.server.server import MAX_MESSAGE_BYTES, PROTOS
from tools.bench.store import store

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]

RULES = """
[[callers]]
name = "soar"
identities = ["jwt:https://issuer.example#soar"]

[[callers.rules]]
methods = ["StepUpService/*"]
tenants = ["acme"]
operations = ["response.*"]
"""
CHECK = "/stepup.v1.StepUpService/CheckStepUp"
QUESTION = step_up.CheckStepUpRequest(
    actor=actor.ActorContext(tenant_id="acme", user_id="bob", session_id="bob-monday"),
    operation="response.run_osquery",
)
QUESTION_IN_JSON = {
    "actor": {"tenant_id": "acme", "user_id": "bob", "session_id": "bob-monday"},
    "operation": "response.run_osquery",
}
METHODS = [
    f"/{service.full_name}/{method.name}"
    for proto in PROTOS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
RETRIED = {
    f"/{name['service']}/{name['method']}"
    for name in json.loads(SERVICE_CONFIG)["methodConfig"][0]["name"]
}


def calling(front):
    """Our client on one connection."""
    return connect(front.address, grpc.ssl_channel_credentials(SERVERS.chain))


@pytest.fixture(scope="module")
def issuer():
    return TokenIssuer()


@pytest.fixture
def bearer(issuer):
    return (("authorization", f"Bearer {issuer.token()}"),)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory, issuer):
    """Starts servers with the same stores and keys, each with a decision log of its own."""
    directory = tmp_path_factory.mktemp("servers")
    with store(directory) as redis, ExitStack() as stack:
        CERTIFICATE.write(directory, "tls")
        arguments = configured(
            directory,
            f'[tls]\ncertificate = "{directory}/tls.crt"\nkey = "{directory}/tls.key"\n'
            f'[storage]\ndatabase_url = "sqlite+aiosqlite:///{directory}/shared.db"\n'
            f'redis_url = "redis://{redis}/0"\nkeys_file = "{directory}/keys.json"\n',
            issuer.trusted(directory),
            RULES,
        )
        for command in (["keys", "generate", "--output", "keys.json"], ["migrate", *arguments]):
            done = run([PROGRAMS / "stepup", *command], directory)
            assert not done.returncode, done.stderr

        def start(name):
            (directory / name).mkdir()
            return stack.enter_context(serving(directory / name, *arguments, insecure=False))

        yield start


@pytest.fixture(scope="module")
def servers(start_server):
    return start_server("one"), start_server("two")


@pytest.fixture(scope="module")
def front(tmp_path_factory, servers):
    addresses = [server.address for server in servers]
    with in_front_of(tmp_path_factory.mktemp("envoy"), *addresses) as running:
        yield running


def decided(server):
    """How many decisions a server has made."""
    log = server.data_dir / "decisions.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_calls_of_one_connection_are_spread_over_both_servers(front, servers, bearer):
    before = [decided(server) for server in servers]
    with calling(front) as client:
        for _ in range(20):
            answer = client.step_up.CheckStepUp(QUESTION, timeout=10, metadata=bearer)
            assert answer.decision == step_up.DECISION_ALLOWED
    made = [decided(server) - earlier for server, earlier in zip(servers, before, strict=True)]
    assert min(made) > 5


def test_who_has_no_token_gets_nothing_whatever_envoy_says_about_the_connection(front):
    claimed = (("x-forwarded-client-cert", "URI=spiffe://acme/ns/prod/sa/soar"),)
    with calling(front) as client, pytest.raises(grpc.RpcError) as refused:
        client.step_up.CheckStepUp(QUESTION, timeout=10, metadata=claimed)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert reason(refused.value) == "CALLER_UNAUTHENTICATED"


def posted(front, path, body, content_type, metadata=()):
    """Status, headers and body of what an HTTP/1.1 client gets."""
    request = Request(
        f"https://{front.address}{path}", body, {"content-type": content_type, **dict(metadata)}
    )
    context = ssl.create_default_context(cadata=SERVERS.chain.decode())
    try:
        with urlopen(request, timeout=10, context=context) as response:  # noqa: S310  # our Envoy
            return response.status, response.headers, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_a_grpc_web_client_gets_a_decision(front, bearer):
    message = QUESTION.SerializeToString()
    framed = struct.pack(">BI", 0, len(message)) + message
    status, _, body = posted(front, CHECK, framed, "application/grpc-web+proto", bearer)
    assert status == 200
    kind, length = struct.unpack_from(">BI", body)
    answer = step_up.CheckStepUpResponse.FromString(body[5 : 5 + length])
    assert (kind, answer.decision) == (0, step_up.DECISION_ALLOWED)
    assert b"grpc-status:0" in body[5 + length :]


def test_s18_envoy_passes_the_largest_message_that_a_server_takes(front, bearer):
    message = QUESTION.SerializeToString()
    room = MAX_MESSAGE_BYTES - len(message) - 5
    size = bytes([room & 0x7F | 0x80, room >> 7 & 0x7F | 0x80, room >> 14])
    largest = message + b"\xc2\x3e" + size + bytes(room)  # the field 1000, which is ignored
    assert len(largest) == MAX_MESSAGE_BYTES
    with calling(front) as client:
        check = client.channel.unary_unary(CHECK)
        answer = step_up.CheckStepUpResponse.FromString(check(largest, 10, metadata=bearer))
        assert answer.decision == step_up.DECISION_ALLOWED
        # The server refuses the first; Envoy refuses the second, in the words of HTTP.
        for size, code in ((MAX_MESSAGE_BYTES + 1, "RESOURCE_EXHAUSTED"), (200_000, "UNKNOWN")):
            with pytest.raises(grpc.RpcError) as refused:
                check(bytes(size), 10, metadata=bearer)
            assert refused.value.code().name == code
    framed = b64encode(struct.pack(">BI", 0, len(largest)) + largest)
    status, _, body = posted(front, CHECK, framed, "application/grpc-web-text+proto", bearer)
    assert status == 200
    assert b"grpc-status:0" in body


def test_a_json_client_gets_a_decision(front, bearer):
    asked = json.dumps(QUESTION_IN_JSON).encode()
    status, _, body = posted(front, CHECK, asked, "application/json", bearer)
    assert (status, json.loads(body)["decision"]) == (200, "DECISION_ALLOWED")


def test_a_json_client_is_told_what_is_wrong(front, bearer):
    asked = json.dumps(QUESTION_IN_JSON | {"operation": "response.run_oskwery"}).encode()
    status, _, body = posted(front, CHECK, asked, "application/json", bearer)
    error = json.loads(body)
    assert (status, error["code"]) == (400, grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert error["details"][0]["reason"] == "UNKNOWN_OPERATION"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/stepup.v1.StepUpService/Check", b"{}"), ("/", b"{}"), (f"{CHECK}?actor=a", b"{}")],
    ids=["no such method", "no method", "fields in the query"],
)
def test_a_json_client_gets_nothing_from_anywhere_else(front, bearer, path, body):
    status, _, _ = posted(front, path, body, "application/json", bearer)
    assert 400 <= status < 500


def test_callers_go_on_when_a_server_is_killed(tmp_path, start_server, servers, bearer):
    lost, other = start_server("lost"), servers[0]
    before = decided(other)
    with in_front_of(tmp_path, lost.address, other.address) as front, calling(front) as client:

        def check(_):
            answer = client.step_up.CheckStepUp(QUESTION, timeout=30, metadata=bearer)
            return answer.decision

        with ThreadPoolExecutor(4) as threads:
            # Lazily: the server dies while calls are under way.
            decisions = threads.map(check, range(200))
            seen = [next(decisions) for _ in range(20)]
            lost.kill()
            seen += decisions
        assert Counter(seen) == {step_up.DECISION_ALLOWED: 200}
        eventually(lambda: front.healthy("stepup") == 1, "Envoy puts it aside")
        assert decided(other) - before > decided(lost)


@contextmanager
def attackers(front, calls, connections, path, message=None):
    """TLS connections without a token, each with calls that it leaves as they are."""
    context = ssl.create_default_context(cadata=SERVERS.chain.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = front.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(connections):
            plain = stack.enter_context(socket.create_connection((host, int(port))))
            secured = stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
            secured.sendall(
                http2.PREFACE
                + http2.settings()
                + b"".join(
                    http2.call(each, path, message=message) for each in range(1, 2 * calls, 2)
                )
            )
        yield


@pytest.mark.parametrize("direct", [False, True], ids=["through Envoy", "direct"])
@pytest.mark.parametrize(
    "opened",
    [(CHECK, None), ("/grpc.health.v1.Health/Watch", b"")],
    ids=["no message", "watch"],
)
def test_s26_calls_without_a_token_keep_nobody_out(front, servers, bearer, direct, opened):
    """Eleven connections with 1,100 calls, where a server has 1,000 places."""
    target = servers[0] if direct else front
    with attackers(target, 100, 11, *opened), calling(target) as client:
        for _ in range(20):
            answer = client.step_up.CheckStepUp(QUESTION, timeout=10, metadata=bearer)
            assert answer.decision == step_up.DECISION_ALLOWED
        checked = client.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for _ in range(20):
            assert checked(b"", timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        assert front.healthy("stepup") == 2


def test_s26_two_connections_that_flood_envoy_put_no_server_aside(front, bearer):
    """As many calls as they like on each: health is asked every two seconds, and thrice."""
    with attackers(front, 1000, 2, CHECK), calling(front) as client:
        ends = time.monotonic() + 7
        while time.monotonic() < ends:
            answer = client.step_up.CheckStepUp(QUESTION, timeout=10, metadata=bearer)
            assert answer.decision == step_up.DECISION_ALLOWED
            assert front.healthy("stepup") == 2


class Refusing(grpc.GenericRpcHandler):
    """A healthy server that answers every call of ours UNAVAILABLE, and keeps what it was sent."""

    def __init__(self):
        self.calls = []
        self.health = "SERVING"

    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check":
            said = health_pb2.HealthCheckResponse(status=self.health).SerializeToString()
            return grpc.unary_unary_rpc_method_handler(lambda *_: said)
        self.calls.append(details)
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        )


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """Envoy before two servers that refuse, and these."""
    with ExitStack() as stack:
        both, addresses = [], []
        for _ in range(2):
            handler = Refusing()
            server = grpc.server(ThreadPoolExecutor(4), handlers=(handler,))
            credentials = grpc.ssl_server_credentials([(CERTIFICATE.key, CERTIFICATE.chain)])
            addresses.append(f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}")
            server.start()
            stack.callback(lambda server=server: server.stop(None).wait())
            both.append(handler)
        front = stack.enter_context(in_front_of(tmp_path_factory.mktemp("envoy"), *addresses))
        channel = stack.enter_context(
            grpc.secure_channel(
                front.address,
                grpc.ssl_channel_credentials(SERVERS.chain),
                options=[("grpc.enable_retries", 0)],
            )
        )
        yield channel, both, front


def attempts(refusing, method, metadata=()):
    """What the servers get of one call."""
    channel, both, _ = refusing
    for server in both:
        server.calls.clear()
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=10, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    return [call for server in both for call in server.calls]


def test_most_methods_are_not_sent_again():
    assert set(METHODS) > RETRIED
    assert "/stepup.v1.StepUpService/VerifyOtp" not in RETRIED


@pytest.mark.parametrize("method", METHODS)
def test_what_the_contract_allows_is_sent_again_and_nothing_else_is(refusing, method):
    assert len(attempts(refusing, method)) == (3 if method in RETRIED else 1)


def test_a_server_that_cannot_decide_gets_no_calls(refusing):
    _, (first, second), front = refusing
    first.health = "NOT_SERVING"
    try:
        eventually(lambda: front.healthy("stepup") == 1, "Envoy puts it aside")
        for _ in range(4):
            attempts(refusing, "/stepup.v1.StepUpService/VerifyOtp")
            assert (len(first.calls), len(second.calls)) == (0, 1)
    finally:
        first.health = "SERVING"
        eventually(lambda: front.healthy("stepup") == 2, "Envoy takes it back")


def test_token_and_request_id_pass_and_what_a_caller_says_of_its_certificate_does_not(refusing):
    said = (
        ("authorization", "Bearer abc"),
        ("x-request-id", "request-1"),
        ("x-forwarded-client-cert", "URI=spiffe://acme/ns/prod/sa/soar"),
    )
    [call] = attempts(refusing, "/stepup.v1.StepUpService/VerifyOtp", said)
    metadata = dict(call.invocation_metadata)
    assert (metadata["authorization"], metadata["x-request-id"]) == ("Bearer abc", "request-1")
    assert "x-forwarded-client-cert" not in metadata
