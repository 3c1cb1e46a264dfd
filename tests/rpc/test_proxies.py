"""No client sends what goes to this machine through the proxy that the environment names (S11)."""

import asyncio
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager

import grpc
import pytest
from stepup_tests import vault as fake_vault
from stepup_tests.e2e.collector import collecting
from stepup_tests.identity.web_server import WebServer, served
from stepup_tests.places import ROOT
from stepup_tests.proxy import recording_proxy

from stepup.client import ActorContext, AsyncStepUpClient, StepUpClient
from stepup.client.messages import step_up
from stepup.keys.kms import VaultTransit
from stepup.rpc.identity.jwks import JwksUrl
from stepup.settings import TracesSettings
from stepup.system.loopback import is_local_target
from stepup.telemetry.probes import probes_answered
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub
from stepup.wiring.traces import begin_span_of

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
CODE = "492039"
"""What no proxy may read."""


@pytest.fixture
def proxy(monkeypatch):
    with recording_proxy() as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


@contextmanager
def verifying(listen="127.0.0.1:0"):
    """A server that answers VerifyOtp; yields its port."""

    def verify(request, _context):
        assert request.code == CODE
        return step_up.VerifyOtpResponse(outcome=step_up.OUTCOME_REJECTED)

    handler = grpc.unary_unary_rpc_method_handler(
        verify,
        step_up.VerifyOtpRequest.FromString,
        step_up.VerifyOtpResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("stepup.v1.StepUpService", {"VerifyOtp": handler})]
    )
    port = server.add_insecure_port(listen)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


PERSON = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")


def test_the_proxy_of_these_tests_reads_what_passes_through_it(proxy):
    with verifying() as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        StepUpServiceStub(channel).VerifyOtp(step_up.VerifyOtpRequest(code=CODE), timeout=10)
    assert CODE.encode() in proxy.read


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "localhost", "dns:///localhost", "ipv4:127.0.0.1"]
)
def test_s11_a_code_does_not_pass_through_a_proxy(proxy, address):
    with verifying() as port, StepUpClient(f"{address}:{port}") as stepup:
        stepup.verify(PERSON, CODE)
    assert not proxy.read


def test_s11_a_code_on_a_unix_socket_does_not_pass_through_a_proxy(proxy, tmp_path):
    target = f"unix:{tmp_path}/stepup.sock"
    with verifying(target), StepUpClient(target) as stepup:
        stepup.verify(PERSON, CODE)
    assert not proxy.read


def test_s11_a_code_of_the_asynchronous_client_does_not_pass_through_a_proxy(proxy):
    async def call(target):
        async with AsyncStepUpClient(target) as stepup:
            await stepup.verify(PERSON, CODE)

    with verifying() as port:
        asyncio.run(call(f"127.0.0.1:{port}"))
    assert not proxy.read


@pytest.mark.parametrize(
    ("target", "is_local"),
    [
        ("localhost", True),
        ("[::1]:50051", True),
        ("ipv6:[::1]:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("unix:///run/stepup.sock", True),
        ("unix-abstract:stepup", True),
        ("dns:localhost:50051", True),
        ("dns://192.0.2.53/localhost:50051", False),
        ("ipv4:127.0.0.1:1,192.0.2.1:1", False),
        ("localhost.example:50051", False),
        ("stepup.prod:50051", False),
        ("unixsocket:50051", False),
        ("[::1].example:50051", False),
        ("xds:///localhost:50051", False),
        ("127.0.0.1@192.0.2.1:50051", False),
        ("", False),
    ],
)
def test_s15_a_target_is_local_only_if_all_of_it_is(target, is_local):
    assert is_local_target(target) is is_local


async def test_s11_the_token_for_an_issuers_keys_does_not_pass_through_a_proxy(proxy, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token")
    with served(WebServer()) as web:
        assert await JwksUrl(web.url, bearer_token_file=token).fetch()
    assert not proxy.read


@pytest.mark.usefixtures("proxy")
async def test_an_issuer_on_another_machine_is_asked_through_the_proxy(proxy):
    with pytest.raises(Exception, match="does not answer"):
        await JwksUrl("https://issuer.invalid/jwks").fetch()
    assert proxy.read.startswith(b"CONNECT issuer.invalid:443")


def test_s6_the_keys_of_the_ring_do_not_pass_through_a_proxy(proxy, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", fake_vault.TOKEN)
    with fake_vault.running() as vault:
        VaultTransit("transit", "stepup", vault.address).wrap(bytes(32))
    assert not proxy.read


async def test_s11_traces_do_not_pass_through_a_proxy(proxy):
    with collecting() as collector:
        async with AsyncExitStack() as stack:
            begin = begin_span_of(TracesSettings(endpoint=collector.endpoint), stack)
            begin("CheckStepUp", None, 1).end({}, failed=False)
        assert collector.spans
    assert not proxy.read


async def test_the_health_check_of_the_image_asks_without_a_proxy(proxy):
    ready = {""}
    async with probes_answered("127.0.0.1", 0, lambda: ready, {""}) as port:
        assert await health_check(port) == 0
        ready.clear()
        assert await health_check(port) == 1
    assert not proxy.read


async def health_check(port):
    """The exit status of the Dockerfile's HEALTHCHECK."""
    stanza = re.compile(r"^HEALTHCHECK .*\\\n  CMD (\[.*\])$", re.MULTILINE)
    [command] = stanza.findall(DOCKERFILE.read_text())
    _, *arguments = (text.replace("9465", str(port)) for text in json.loads(command))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    return await process.wait()
