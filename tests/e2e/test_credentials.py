"""A server process whose callers have certificates, or tokens: who gets in, and how far (S15)."""

import json
import socket
import ssl
import time
from contextlib import contextmanager

import pytest
from stepup_tests.certificates import DAY, authority
from stepup_tests.e2e.clients import BufCurl, GrpCurl, Refused, Unreachable
from stepup_tests.e2e.guarded import (
    CLIENTS,
    SERVERS,
    SOAR,
    TokenIssuer,
    bearing,
    configured,
    presenting,
    tls,
    trusting,
)
from stepup_tests.e2e.metrics import LISTEN, metrics
from stepup_tests.e2e.people import OSQUERY, check, person, verdict, verify
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="callers' certificates do not get past Envoy"),
]

RULES = """
[[callers]]
name = "soar"
identities = ["spiffe://acme/ns/prod/sa/soar", "jwt:https://issuer.example#soar"]

[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["acme"]
operations = ["response.*"]
claims = ["automatic_playbook"]
"""
RATED = "spiffe://acme/ns/prod/sa/rated"
RULES += f"""
[[callers]]
name = "rated"
identities = ["{RATED}"]
rate = {{ per_second = 0.1, burst = 2 }}

[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["acme"]
operations = ["response.*"]
"""
BOB = person("acme", "bob")
# Else grpcurl tries for ten seconds to be let in.
IMPATIENT = ("--connect-timeout", "2")

each_program = pytest.mark.parametrize("program", [GrpCurl, BufCurl], ids=["grpcurl", "buf"])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that demands client certificates."""
    directory = tmp_path_factory.mktemp("guarded")
    arguments = configured(directory, LISTEN, tls(directory), RULES)
    with serving(directory, *arguments, insecure=False) as server:
        yield server


@each_program
def test_s15_the_right_certificate_gets_an_answer(guarded, tmp_path, program):
    client = program(guarded, *presenting(tmp_path, CLIENTS.client(SOAR)))
    assert verdict(client, BOB, OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")


def test_s15_a_decision_names_the_certificate_and_the_rule_that_let_it_be_asked(guarded, tmp_path):
    automatic = {"playbook_id": "p-1", "run_id": "r-1", "trigger": "PLAYBOOK_TRIGGER_AUTOMATIC"}
    soar = GrpCurl(guarded, *presenting(tmp_path, CLIENTS.client(SOAR)))
    check(soar, BOB | {"playbook_run": automatic}, OSQUERY)
    *_, newest = (guarded.data_dir / "decisions.jsonl").read_text().splitlines()
    line = json.loads(newest)
    assert (line["caller"], line["identities"]) == ("soar", [SOAR])
    assert line["granted_by"] == "callers[0].rules[0]"
    assert line["claims"] == {"automatic_playbook": "callers[0].rules[0]"}


@contextmanager
def a_failure_on_record(server, reason):
    """The block makes a handshake fail: the metric counts the failure, and the log has the peer."""
    series = ("stepup_handshake_failures_total", reason)
    before = metrics(server).get(series, 0)
    yield
    eventually(lambda: metrics(server).get(series, 0) > before, "the failure is counted")
    [line, *_] = [
        each
        for each in map(json.loads, server.stderr.read_text().splitlines())
        if each["event"] == "handshake_failed" and each["reason"] == reason
    ]
    assert line["peer"].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize(
    ("made", "program", "reason"),
    [
        (lambda: None, GrpCurl, "certificate_missing"),
        (lambda: authority("strangers").client(SOAR), BufCurl, "certificate_foreign"),
        (lambda: CLIENTS.client(SOAR, lifetime=-DAY), GrpCurl, "certificate_expired"),
        (
            lambda: CLIENTS.client(SOAR, begins=DAY, lifetime=2 * DAY),
            GrpCurl,
            "certificate_not_yet_valid",
        ),
        (lambda: SERVERS.client(SOAR), GrpCurl, "certificate_foreign"),
        (CLIENTS.server, GrpCurl, "certificate_not_accepted"),
    ],
    ids=["none", "foreign", "expired", "not yet valid", "of the servers' authority", "a server's"],
)
def test_s15_another_certificate_gets_nothing(guarded, tmp_path, program, made, reason):
    client = program(guarded, *presenting(tmp_path, made()), *IMPATIENT)
    with a_failure_on_record(guarded, reason), pytest.raises(Unreachable):
        check(client, BOB, OSQUERY)


@pytest.mark.parametrize(
    ("uris", "refusal"),
    [
        ((SOAR, f"{SOAR}2"), "UNAUTHENTICATED: .*more than one URI SAN"),
        ((), "UNAUTHENTICATED: .*no URI SAN"),
        (("https://acme/ns/prod/sa/soar",), "UNAUTHENTICATED: .*not the SPIFFE id"),
        (("spiffe://acme/other",), "PERMISSION_DENIED: .*name no caller that is registered"),
    ],
    ids=["two SANs", "no SAN", "no SPIFFE id", "not registered"],
)
def test_s15_a_certificate_that_names_no_caller_gets_nothing(guarded, tmp_path, uris, refusal):
    client = GrpCurl(guarded, *presenting(tmp_path, CLIENTS.client(*uris)))
    with pytest.raises(Refused, match=refusal):
        check(client, BOB, OSQUERY)


@each_program
def test_s15_plaintext_is_not_spoken(guarded, program):
    with a_failure_on_record(guarded, "not_tls"), pytest.raises(Unreachable):
        check(program(guarded, *IMPATIENT), BOB, OSQUERY)


def handshake(server, directory, version):
    """What the server speaks with OpenSSL that would speak any version."""
    context = ssl.create_default_context(cadata=SERVERS.chain.decode())
    context.load_cert_chain(*CLIENTS.client(SOAR).write(directory, "client"))
    context.set_alpn_protocols(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return wrapped.version(), wrapped.selected_alpn_protocol(), len(wrapped.recv(1))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_s15_today_s_tls_is_spoken(guarded, tmp_path, version):
    spoken, protocol, read = handshake(guarded, tmp_path, version)
    assert (spoken.replace(".", "_"), protocol, read) == (version.name, "h2", 1)


@pytest.mark.skipif(not ssl.HAS_TLSv1_1, reason="OpenSSL here could not speak it either")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_s15_yesterday_s_tls_is_not_spoken(guarded, tmp_path, version):
    with (
        a_failure_on_record(guarded, "tls_version"),  # the server refuses, not OpenSSL here
        pytest.warns(DeprecationWarning, match="TLSv1"),
        pytest.raises(ssl.SSLError),
    ):
        handshake(guarded, tmp_path, version)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda soar: check(soar, person("umbrella", "bob"), OSQUERY), "CALLER_NOT_PERMITTED"),
        (lambda soar: check(soar, BOB, "iam.configure_access"), "CALLER_NOT_PERMITTED"),
        (lambda soar: verify(soar, BOB, "123456"), "CALLER_NOT_PERMITTED"),
        (
            lambda soar: check(soar, BOB | {"team": "TEAM_MANAGED_SERVICES_OPERATIONS"}, OSQUERY),
            "CLAIM_NOT_PERMITTED",
        ),
    ],
    ids=["tenant", "operation", "method", "claim"],
)
def test_s15_s16_a_caller_stays_within_its_rules(guarded, tmp_path, call, reason):
    soar = GrpCurl(guarded, *presenting(tmp_path, CLIENTS.client(SOAR)))
    with pytest.raises(Refused) as refused:
        call(soar)
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", reason)


def test_a_caller_over_its_rate_is_told_when_to_come_again(guarded, tmp_path):
    rated = GrpCurl(guarded, *presenting(tmp_path, CLIENTS.client(RATED)))

    def call_until_refused():
        for _ in range(20):  # on a slow machine the rate lets some more through
            check(rated, BOB, OSQUERY)

    with pytest.raises(Refused) as refused:
        call_until_refused()
    assert (refused.value.code, refused.value.reason) == (
        "RESOURCE_EXHAUSTED",
        "CALLER_RATE_LIMITED",
    )
    assert refused.value.detail("RetryInfo")["retry_delay"]
    assert metrics(guarded)["stepup_caller_rate_limited_total", "rated"] >= 1


def test_s15_a_token_of_the_issuer_gets_an_answer_and_no_other_does(tmp_path, start_server):
    issuer = TokenIssuer()
    another = (
        'issuer = "https://other.example"\njwks_url = "http://127.0.0.1:9/jwks"\naudiences = ["a"]'
    )
    parts = (issuer.trusted(tmp_path), f"[[token_issuers]]\n{another}\n", RULES)
    server = start_server(*configured(tmp_path, *parts), insecure=False)
    # It serves, although another issuer's URL does not answer.
    [warned] = server.logged("jwks_not_refreshed")
    assert (warned["level"], warned["problem"]) == ("warning", "does not answer")

    def refusal(*options):
        with pytest.raises(Refused) as refused:
            check(GrpCurl(server, *options), BOB, OSQUERY)
        return refused.value.reason

    right = GrpCurl(server, *bearing(issuer.token()))
    assert verdict(right, BOB, OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")
    assert refusal(*bearing(issuer.token(aud="other"))) == "CALLER_UNAUTHENTICATED"
    expired = issuer.token(exp=int(time.time()) - 1)
    assert refusal(*bearing(expired)) == "CALLER_UNAUTHENTICATED"
    assert refusal(*bearing(issuer.token(sub="other"))) == "CALLER_NOT_PERMITTED"
    assert refusal(*bearing(TokenIssuer().token())) == "CALLER_UNAUTHENTICATED"
    assert refusal() == "CALLER_UNAUTHENTICATED"


def test_a_server_does_not_start_with_a_jwks_file_that_is_not_there(tmp_path):
    options = configured(tmp_path, trusting(f'jwks_file = "{tmp_path}/gone.json"'), RULES)
    command = [PROGRAMS / "stepup", "serve", "--listen", "127.0.0.1:0", *options]
    refused = run([*command, "--data-dir", tmp_path / "data"], tmp_path)
    assert refused.returncode == 2
    said = f"stepup: token_issuers[0].jwks_file: {tmp_path}/gone.json cannot be read\n"
    assert refused.stderr.endswith(said)
