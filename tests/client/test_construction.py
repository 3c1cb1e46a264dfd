"""How clients reach a server, and prove who calls."""

import asyncio
import logging
import os
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
from stepup_tests.certificates import authority
from stepup_tests.client.either_client import either_client
from stepup_tests.client.scripted_server import scripted_server
from stepup_tests.proxy import recording_proxy

from stepup.client import (
    ActorContext,
    Allowed,
    AsyncStepUpClient,
    CallerCredentials,
    StepUpClient,
    UnavailableError,
    rpcs,
)
from stepup.client.channels import Endpoint
from stepup.client.messages import step_up

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
ALLOWED = step_up.CheckStepUpResponse(
    decision=step_up.DECISION_ALLOWED, reason=step_up.DECISION_REASON_ELEVATED
)
SOAR = "spiffe://acme/ns/prod/sa/soar"
CONSOLE = "spiffe://acme/ns/prod/sa/console"


def check(stepup):
    return stepup.check(ACTOR, "response.run_osquery")


@pytest.fixture
def tls_server():
    """Takes clients of the authority `clients`; its requests have the callers' names."""
    ours = authority("servers").server()
    credentials = grpc.ssl_server_credentials(
        [(ours.key, ours.chain)], authority("clients").chain, require_client_auth=True
    )
    with scripted_server("localhost:0", credentials) as server:
        server.callers = []

        def who(_request, context):
            server.callers.append(
                context.auth_context()["x509_subject_alternative_name"][0].decode()
            )
            return ALLOWED

        server.script(rpcs.CHECK_STEP_UP, who)
        yield server


@pytest.fixture
def files(tmp_path):
    """The files of a caller, by the arguments that take them."""
    (tmp_path / "servers.crt").write_bytes(authority("servers").chain)
    return {"authorities": tmp_path / "servers.crt", **caller_files(tmp_path, SOAR)}


def caller_files(folder, name):
    certificate, key = authority("clients").client(name).write(folder, "caller")
    return {"certificate": certificate, "private_key": key}


@pytest.mark.parametrize("client", [AsyncStepUpClient, StepUpClient])
@pytest.mark.parametrize("target", ["127.0.0.1:50051", "localhost:50051", "unix:/run/stepup"])
def test_a_server_on_this_machine_needs_no_credentials(client, target):
    assert client(target)


@pytest.mark.parametrize("client", [AsyncStepUpClient, StepUpClient])
@pytest.mark.parametrize(
    "target", ["stepup:50051", "192.0.2.1:50051", "[2001:db8::1]:50051", "dns:///stepup:1", "x", ""]
)
def test_s15_nothing_is_sent_in_plaintext_to_another_machine_unasked(client, target):
    with pytest.raises(ValueError, match=r"needs credentials.*insecure=True"):
        client(target)
    assert client(target, insecure=True)


def test_s15_credentials_are_never_sent_in_plaintext():
    with pytest.raises(ValueError, match="plain text"):
        StepUpClient("stepup:50051", CallerCredentials(token="a-token"), insecure=True)


async def test_another_address_is_called_in_plaintext_if_insecure_says_so(kind, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    name = server.address.replace("127.0.0.1", "0.0.0.0")  # noqa: S104  # ours, though not by its text
    with pytest.raises(ValueError, match="needs credentials"):
        Endpoint(name)
    async with either_client(kind, name, insecure=True) as stepup:
        assert isinstance(await check(stepup), Allowed)


async def test_s11_no_call_passes_through_a_proxy_of_the_environment(kind, server, monkeypatch):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    with recording_proxy() as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        async with either_client(kind, server.address) as stepup:
            await check(stepup)
        assert not proxy.read
    for insecure in (False, True):
        endpoint = Endpoint(
            "stepup:50051", None if insecure else CallerCredentials(token="x"), insecure
        )
        assert dict(endpoint.channel_options())["grpc.enable_http_proxy"] == 0


async def test_s15_the_caller_is_who_its_certificate_says(kind, tls_server, files):
    async with either_client(kind, tls_server.address, CallerCredentials(**files)) as stepup:
        await check(stepup)
    assert tls_server.callers == [SOAR]


async def test_a_renewed_certificate_is_used_without_a_restart(kind, tls_server, files, tmp_path):
    async with either_client(kind, tls_server.address, CallerCredentials(**files)) as stepup:
        await check(stepup)
        caller_files(tmp_path, CONSOLE)
        look_again(stepup)
        await check(stepup)
    assert tls_server.callers == [SOAR, CONSOLE]


async def test_files_that_do_not_fit_leave_the_certificate_as_it_was(
    kind, tls_server, files, tmp_path, caplog
):
    async with either_client(kind, tls_server.address, CallerCredentials(**files)) as stepup:
        files["private_key"].write_bytes(authority("clients").client(CONSOLE).key)
        look_again(stepup)
        with caplog.at_level(logging.WARNING, "stepup.client"):
            await check(stepup)
        assert "not usable together" in caplog.text
        assert "BEGIN" not in caplog.text
        caller_files(tmp_path, CONSOLE)
        look_again(stepup)
        await check(stepup)
    assert tls_server.callers == [SOAR, CONSOLE]


async def test_calls_in_flight_end_on_the_previous_connection(tls_server, files, tmp_path):
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_request, _context):
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.3)
        return ALLOWED

    tls_server.script(rpcs.CHECK_STEP_UP, slow, ALLOWED)
    async with either_client("async", tls_server.address, CallerCredentials(**files)) as stepup:
        first = asyncio.create_task(check(stepup))
        await begun.wait()
        caller_files(tmp_path, CONSOLE)
        look_again(stepup)
        await check(stepup)
        assert isinstance(await first, Allowed)


def look_again(stepup):
    """Let the second pass after which a client looks at its files again."""
    stepup.client._transport._look_at = 0.0  # noqa: SLF001  # no test waits for a second


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"private_key": None}, "belong together"),
        ({"certificate": None}, "belong together"),
        ({"certificate": None, "private_key": None}, "a token, or both"),
        ({"certificate": Path("/nowhere.pem")}, "/nowhere.pem: No such file"),
        ({"certificate": Path(__file__)}, "not usable together for TLS"),
        ({"authorities": Path(__file__)}, "not usable together for TLS"),
        ({"token": Path("/nowhere")}, "/nowhere: No such file"),
        ({"token": Path(os.devnull)}, "not a token"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused_at_once(files, change, problem):
    with pytest.raises(ValueError, match=problem):
        CallerCredentials(**{**files, **change})


def test_an_encrypted_key_is_refused_without_a_question(files):
    caller = authority("clients").client(SOAR)
    files["certificate"].write_bytes(caller.chain)
    files["private_key"].write_bytes(caller.encrypted_key)
    with pytest.raises(ValueError, match="not usable together"):
        CallerCredentials(**files)


async def test_a_token_is_sent_with_each_call_and_read_again(kind, tls_server, files, tmp_path):
    token = tmp_path / "token"
    token.write_text("first\n")
    credentials = CallerCredentials(**files, token=token)
    async with either_client(kind, tls_server.address, credentials) as stepup:
        await check(stepup)
        token.write_text("second-token\n")
        look_again(stepup)
        await check(stepup)
        token.write_text("")
        look_again(stepup)
        await check(stepup)
    sent = [metadata["authorization"] for metadata in tls_server.metadata]
    assert sent == ["Bearer first", "Bearer second-token", "Bearer second-token"]


async def fetched():
    return "fetched"


@pytest.mark.parametrize(
    ("token", "sent"),
    [("fixed", "Bearer fixed"), (lambda: "made", "Bearer made")],
)
async def test_a_token_may_come_from_a_function(kind, tls_server, files, token, sent):
    credentials = CallerCredentials(**files, token=token)
    async with either_client(kind, tls_server.address, credentials) as stepup:
        await check(stepup)
    assert tls_server.metadata[0]["authorization"] == sent


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_only_the_asynchronous_client_takes_an_asynchronous_function(kind, tls_server, files):
    credentials = CallerCredentials(**files, token=fetched)
    async with either_client(kind, tls_server.address, credentials) as stepup:
        if stepup.is_async:
            await check(stepup)
            assert tls_server.metadata[0]["authorization"] == "Bearer fetched"
        else:
            with pytest.raises(UnavailableError, match="token"):
                await check(stepup)


async def test_a_token_function_that_fails_lets_nothing_run(kind, tls_server, files):
    def fail():
        raise OSError("no issuer")

    credentials = CallerCredentials(**files, token=fail)
    async with either_client(kind, tls_server.address, credentials) as stepup:
        with pytest.raises(UnavailableError, match="token") as raised:
            await check(stepup)
    assert isinstance(raised.value.__cause__, OSError)
    assert not tls_server.calls


async def test_a_token_function_that_hangs_lets_nothing_run(tls_server, files):
    credentials = CallerCredentials(**files, token=lambda: asyncio.sleep(60))
    async with either_client("async", tls_server.address, credentials, timeout=0.1) as stepup:
        with pytest.raises(UnavailableError, match="token"):
            await check(stepup)
    assert not tls_server.calls


async def test_metadata_of_a_call_is_sent(stepup, server):
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    await stepup.check(ACTOR, "x.y", metadata=[("stepup-portal-session", "an-id")])
    assert server.metadata[0]["stepup-portal-session"] == "an-id"


@pytest.mark.skipif(find_spec("opentelemetry") is None, reason="OpenTelemetry is not installed")
async def test_a_call_belongs_to_the_trace_of_the_caller(stepup, server):
    trace = import_module("opentelemetry.trace")
    context = trace.SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=trace.TraceFlags(1))
    server.script(rpcs.CHECK_STEP_UP, ALLOWED)
    with trace.use_span(trace.NonRecordingSpan(context)):
        await check(stepup)
    assert f"{0xA1:032x}-{0xB2:016x}" in server.metadata[0]["traceparent"]


async def test_wait_for_ready_waits_for_a_server_that_starts(kind, tmp_path):
    target = f"unix:{tmp_path}/stepup.sock"
    async with either_client(kind, target, wait_for_ready=True, timeout=10) as stepup:
        checked = asyncio.ensure_future(check(stepup))
        await asyncio.sleep(0.1)
        with scripted_server(target) as server:
            server.script(rpcs.CHECK_STEP_UP, ALLOWED)
            assert isinstance(await checked, Allowed)


def test_a_client_can_be_made_before_its_event_loop():
    stepup = AsyncStepUpClient("127.0.0.1:1")
    with pytest.raises(UnavailableError):
        asyncio.run(stepup.require(ACTOR, "x.y"))


ENVIRONMENT = {"STEPUP_CLIENT_TARGET": "stepup.prod:50051"}


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({}, "STEPUP_CLIENT_TARGET is not set"),
        (ENVIRONMENT, "needs credentials"),
        ({**ENVIRONMENT, "STEPUP_CLIENT_INSECURE": "yes"}, "STEPUP_CLIENT_INSECURE must be"),
        ({**ENVIRONMENT, "STEPUP_CLIENT_INSECURE": "false"}, "needs credentials"),
        ({**ENVIRONMENT, "STEPUP_CLIENT_WAIT_FOR_READY": "-"}, "STEPUP_CLIENT_WAIT_FOR_READY must"),
        ({"STEPUP_CLIENT_TARGET": "[::1]:1", "STEPUP_CLIENT_TIMEOUT": "5s"}, "number of seconds"),
        ({"STEPUP_CLIENT_TARGET": "[::1]:1", "STEPUP_CLIENT_TIMEOUT": "0"}, "a timeout is over 0"),
        ({**ENVIRONMENT, "STEPUP_CLIENT_PRIVATE_KEY": "/x"}, "belong together"),
        (
            {**ENVIRONMENT, "STEPUP_CLIENT_TOKEN": "x", "STEPUP_CLIENT_TOKEN_FILE": "/x"},
            "both set",
        ),
    ],
)
def test_a_variable_that_is_wrong_is_named(variables, problem):
    with pytest.raises(ValueError, match=problem):
        StepUpClient.from_env(variables)


def test_s15_an_error_about_variables_has_no_token():
    variables = {"STEPUP_CLIENT_TOKEN": "secret", "STEPUP_CLIENT_TARGET": ""}
    with pytest.raises(ValueError, match="TARGET") as raised:
        StepUpClient.from_env(variables)
    assert "secret" not in str(raised.value)


async def test_a_client_comes_from_the_environment(kind, tls_server, files, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token")
    variables = {
        "STEPUP_CLIENT_TARGET": tls_server.address,
        "STEPUP_CLIENT_CERTIFICATE": str(files["certificate"]),
        "STEPUP_CLIENT_PRIVATE_KEY": str(files["private_key"]),
        "STEPUP_CLIENT_AUTHORITIES": str(files["authorities"]),
        "STEPUP_CLIENT_TOKEN_FILE": str(token),
        "STEPUP_CLIENT_TIMEOUT": "60",
        "STEPUP_CLIENT_WAIT_FOR_READY": "true",
        "STEPUP_CLIENT_SERVICE_HOST": "10.0.0.1",  # Kubernetes, for a Service `stepup-client`
    }
    client = {"async": AsyncStepUpClient, "sync": StepUpClient}[kind]
    async with either_client(kind, made=client.from_env(variables)) as stepup:
        await check(stepup)
    assert tls_server.callers == [SOAR]
    assert tls_server.metadata[0]["authorization"] == "Bearer a-token"
    assert tls_server.seconds_left[0] > 30
