"""A server process whose callers have certificates, or tokens: who gets in, and how far (S15)."""

import json
import subprocess
import time

import pytest
from e2e.metrics import LISTEN, metrics
from e2e.processes import PROGRAMS, ROOT, run
from joserfc import jwt
from joserfc.jwk import ECKey
from support.certificates import DAY, authority

pytestmark = pytest.mark.e2e

SOAR = "spiffe://acme/ns/prod/sa/soar"
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
PROTOS = ("-protoset", str(ROOT / "protos" / "released.binpb"))
ACTOR = {"tenant_id": "acme", "user_id": "bob", "session_id": "monday"}
CHECK = {"actor": ACTOR, "operation": "response.run_osquery"}


def written(directory, *tables, of_caller=""):
    file = directory / "stepup.toml"
    callers = RULES.replace("[[callers.rules]]", f"{of_caller}[[callers.rules]]")
    file.write_text("\n".join((*tables, callers)))
    return ("--config", str(file))


def issuer(source):
    return f'[[token_issuers]]\nissuer = "https://issuer.example"\naudiences = ["stepup"]\n{source}'


@pytest.fixture
def start_tls_server(tmp_path, start_server):
    """Starts a server that demands client certificates, with further settings of its caller."""
    authority("servers").server().write(tmp_path, "server")
    (tmp_path / "clients.pem").write_bytes(authority("clients").chain)
    (tmp_path / "servers.pem").write_bytes(authority("servers").chain)
    tls = (
        f'[tls]\ncertificate = "{tmp_path}/server.crt"\nkey = "{tmp_path}/server.key"\n'
        f'client_ca = "{tmp_path}/clients.pem"'
    )

    def start(of_caller=""):
        return start_server(*written(tmp_path, LISTEN, tls, of_caller=of_caller), insecure=False)

    return start


@pytest.fixture
def guarded(start_tls_server):
    """A server that demands client certificates, and a caller of its authority."""
    return start_tls_server()


def grpcurl(server, request, *options, method="StepUpService/CheckStepUp"):
    command = [PROGRAMS / "grpcurl", "-max-time", "20", *options, "-d", json.dumps(request)]
    done = subprocess.run(
        [*command, server.address, f"stepup.v1.{method}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def with_certificate(directory, certificate):
    chain, key = certificate.write(directory, "client")
    return ("-cacert", f"{directory}/servers.pem", "-cert", str(chain), "-key", str(key))


def test_s15_the_right_certificate_gets_an_answer(guarded, tmp_path):
    status, output = grpcurl(
        guarded, CHECK, *with_certificate(tmp_path, authority("clients").client(SOAR))
    )
    assert status == 0, output
    assert "MFA_NOT_ENABLED" in output


def test_s15_a_decision_names_the_certificate_and_the_rule_that_let_it_be_asked(guarded, tmp_path):
    automatic = {"playbook_id": "p-1", "run_id": "r-1", "trigger": "PLAYBOOK_TRIGGER_AUTOMATIC"}
    request = CHECK | {"actor": ACTOR | {"playbook_run": automatic}}
    grpcurl(guarded, request, *with_certificate(tmp_path, authority("clients").client(SOAR)))
    line = json.loads((guarded.data_dir / "decisions.jsonl").read_text())
    assert (line["caller"], line["identities"]) == ("soar", [SOAR])
    assert line["granted_by"] == "callers[0].rules[0]"
    assert line["claims"] == {"automatic_playbook": "callers[0].rules[0]"}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: authority("strangers").client(SOAR), "Failed to dial"),
        (lambda: authority("clients").client(SOAR, lifetime=-DAY), "Failed to dial"),
        (lambda: authority("clients").client(SOAR, f"{SOAR}2"), "more than one URI SAN"),
        (
            lambda: authority("clients").client("spiffe://acme/other"),
            "name no caller that is registered",
        ),
    ],
    ids=["foreign", "expired", "two SANs", "not registered"],
)
def test_s15_another_certificate_gets_nothing(guarded, tmp_path, made, said):
    # Its own reflection is no way in: grpcurl reads the schema from the protos.
    status, output = grpcurl(guarded, CHECK, *PROTOS, *with_certificate(tmp_path, made()))
    assert status != 0
    assert said in output
    assert "decision" not in output


def test_s15_without_a_certificate_there_is_no_connection(guarded, tmp_path):
    status, output = grpcurl(guarded, CHECK, *PROTOS, "-cacert", f"{tmp_path}/servers.pem")
    assert status != 0
    assert "Failed to dial" in output


def test_s15_plaintext_is_not_spoken(guarded):
    status, output = grpcurl(guarded, CHECK, *PROTOS, "-plaintext")
    assert status != 0
    assert "Failed to dial" in output


@pytest.mark.parametrize(
    ("request_", "method", "said"),
    [
        (CHECK | {"actor": ACTOR | {"tenant_id": "umbrella"}}, "CheckStepUp", "NOT_PERMITTED"),
        (CHECK | {"operation": "iam.configure_access"}, "CheckStepUp", "CALLER_NOT_PERMITTED"),
        ({"actor": ACTOR, "code": "123456"}, "VerifyOtp", "CALLER_NOT_PERMITTED"),
        (
            CHECK | {"actor": ACTOR | {"team": "TEAM_MANAGED_SERVICES_OPERATIONS"}},
            "CheckStepUp",
            "CLAIM_NOT_PERMITTED",
        ),
    ],
    ids=["tenant", "operation", "method", "claim"],
)
def test_s15_s16_a_caller_stays_within_its_rules(guarded, tmp_path, request_, method, said):
    options = with_certificate(tmp_path, authority("clients").client(SOAR))
    status, output = grpcurl(guarded, request_, *options, method=f"StepUpService/{method}")
    assert status != 0
    assert said in output


def test_a_caller_over_its_rate_is_told_when_to_come_again(tmp_path, start_tls_server):
    server = start_tls_server("rate = { per_second = 0.1, burst = 2 }\n")
    options = with_certificate(tmp_path, authority("clients").client(SOAR))
    ended = [grpcurl(server, CHECK, *options) for _ in range(5)]
    assert ended[0][0] == 0, ended[0][1]
    status, output = ended[-1]
    assert status != 0
    assert "ResourceExhausted" in output
    assert "CALLER_RATE_LIMITED" in output
    assert "retry_delay" in output
    assert metrics(server)["stepup_caller_rate_limited_total", "soar"] >= 1


def test_s15_a_token_of_the_issuer_gets_an_answer_and_no_other_does(tmp_path, start_server):
    key = ECKey.generate_key("P-256", {"kid": "k1"})
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
    server = start_server(
        *written(
            tmp_path,
            issuer(f'jwks_file = "{tmp_path}/jwks.json"'),
        ),
        insecure=False,
    )
    claims = {
        "iss": "https://issuer.example",
        "aud": "stepup",
        "sub": "soar",
        "exp": int(time.time()) + 300,
    }

    def answer(**other):
        token = jwt.encode({"alg": "ES256", "kid": "k1"}, claims | other, key)
        return grpcurl(server, CHECK, "-plaintext", "-H", f"authorization: Bearer {token}")[1]

    assert "MFA_NOT_ENABLED" in answer()
    assert "CALLER_UNAUTHENTICATED" in answer(aud="other")
    assert "CALLER_UNAUTHENTICATED" in answer(exp=int(time.time()) - 1)
    assert "CALLER_NOT_PERMITTED" in answer(sub="other")
    assert "CALLER_UNAUTHENTICATED" in grpcurl(server, CHECK, "-plaintext")[1]


def test_a_server_does_not_start_with_a_jwks_file_that_is_not_there(tmp_path):
    options = written(tmp_path, issuer(f'jwks_file = "{tmp_path}/gone.json"'))
    command = [PROGRAMS / "stepup", "serve", "--listen", "127.0.0.1:0", *options]
    refused = run([*command, "--data-dir", tmp_path / "data"], tmp_path)
    assert refused.returncode == 2
    said = f"stepup: token_issuers[0].jwks_file: {tmp_path}/gone.json cannot be read\n"
    assert refused.stderr.endswith(said)


def test_a_server_starts_while_the_url_of_an_issuer_does_not_answer(tmp_path, start_server):
    options = written(tmp_path, issuer('jwks_url = "http://127.0.0.1:9/jwks"'))
    server = start_server(*options, insecure=False)
    said = map(json.loads, server.stderr.read_text().splitlines())
    [warned] = [line for line in said if line["event"] == "jwks_not_refreshed"]
    assert (warned["level"], warned["problem"]) == ("warning", "does not answer")
