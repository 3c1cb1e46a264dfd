"""`stepup doctor --profile`: a connection of an operator to a server that demands certificates."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from stepup_tests.certificates import DAY, authority
from stepup_tests.e2e.guarded import CLIENTS, SERVERS, SOAR, configured, tls
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT
from typer.testing import CliRunner

from stepup.cli.main import app

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="callers' certificates do not get past Envoy"),
]
RULES = f"""
[[callers]]
name = "sam"
identities = ["{SOAR}"]

[[callers.rules]]
methods = ["PolicyService/ListOperations"]
tenants = ["acme"]
operations = ["*"]
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("guarded")
    with serving(directory, *configured(directory, tls(directory), RULES), insecure=False) as it:
        yield SimpleNamespace(server=it, directory=directory)


@pytest.fixture
def doctor(guarded, tmp_path, monkeypatch):
    """Runs the command with a profile; returns the exit code and the states by what was tried."""

    def run_with(credential, **changes):
        (tmp_path / "servers.pem").write_bytes(SERVERS.chain)
        (tmp_path / "others.pem").write_bytes(CLIENTS.chain)
        profile = {"address": guarded.server.address, "tls_ca": "servers.pem", **changes}
        if credential is not None:
            credential.write(tmp_path, "sam")
            profile = {"certificate": "sam.crt", "key": "sam.key"} | profile
        lines = [f"{name} = {json.dumps(value)}" for name, value in profile.items()]
        (tmp_path / "ctl.toml").write_text("\n".join(["[profiles.it]", *lines]))
        monkeypatch.setenv("STEPUP_CTL_CONFIG", str(tmp_path / "ctl.toml"))
        result = CliRunner().invoke(app, ["doctor", "--profile", "it", "--json"])
        findings = map(json.loads, result.stdout.splitlines())
        return result.exit_code, [tuple(finding.values()) for finding in findings]

    return run_with


def states(findings):
    return [(check, state) for check, state, _ in findings]


REACHED = [("certificate", "ok"), ("network", "ok")]


def test_a_good_connection_is_well(doctor):
    code, findings = doctor(CLIENTS.client(SOAR, lifetime=30 * DAY))
    assert code == 0
    assert states(findings) == [
        *REACHED,
        ("tls", "warning"),  # the server's certificate lives for a day
        ("health", "ok"),
        ("permissions", "ok"),
        ("permissions", "unknown"),
    ]


def test_a_method_that_is_not_permitted_is_an_error(doctor):
    code, findings = doctor(CLIENTS.client(SOAR, lifetime=30 * DAY), tenant="acme")
    assert code == 1
    assert ("permissions", "error") in states(findings)
    assert any("PolicyService/GetPolicy: PERMISSION_DENIED" in each for *_, each in findings)


@pytest.mark.parametrize(
    ("made", "tried"),
    [
        (lambda: CLIENTS.client(SOAR, lifetime=-DAY), [("certificate", "error")]),
        (
            lambda: authority("strangers").client(SOAR, lifetime=30 * DAY),
            [*REACHED, ("tls", "warning"), ("tls", "error")],
        ),
    ],
    ids=["expired", "foreign"],
)
def test_a_certificate_that_the_server_refuses_is_an_error(doctor, made, tried):
    code, findings = doctor(made())
    assert (code, states(findings)) == (1, tried)


def test_a_token_without_a_certificate_that_the_server_demands_is_an_error(doctor, tmp_path):
    (tmp_path / "token").write_text("abc")
    code, findings = doctor(None, token_file="token")
    assert (code, states(findings)[-1]) == (1, ("tls", "error"))
    assert "does not accept your certificate" in findings[-1][-1]


@pytest.mark.parametrize(
    ("changes", "check", "sentence"),
    [
        ({"address": "localhost:1"}, "network", "Connection refused"),
        ({"address": "nowhere.invalid:443"}, "network", "its host name is not known"),
        ({"tls_ca": "others.pem"}, "tls", "do not verify the server's certificate"),
    ],
    ids=["port", "host", "authority"],
)
def test_what_is_wrong_with_a_connection_is_said(doctor, changes, check, sentence):
    code, findings = doctor(CLIENTS.client(SOAR, lifetime=30 * DAY), **changes)
    assert (code, states(findings)[-1]) == (1, (check, "error"))
    assert sentence in findings[-1][-1]


def test_a_server_that_demands_tls_is_said_to_a_connection_in_plain_text(guarded, tmp_path):
    (tmp_path / "ctl.toml").write_text(
        f'[profiles.it]\naddress = "{guarded.server.address}"\ninsecure = true\n'
    )
    result = CliRunner().invoke(
        app, ["doctor", "--profile", "it"], env={"STEPUP_CTL_CONFIG": str(tmp_path / "ctl.toml")}
    )
    assert "Does it demand TLS?" in result.stdout


@pytest.mark.parametrize("command", [["ctl", "operations"], ["doctor"]], ids=["ctl", "doctor"])
def test_no_line_of_grpc_is_written_to_a_person(guarded, tmp_path, command):
    (tmp_path / "others.pem").write_bytes(CLIENTS.chain)
    CLIENTS.client(SOAR).write(tmp_path, "sam")
    (tmp_path / "ctl.toml").write_text(
        f'[profiles.it]\naddress = "{guarded.server.address}"\ntls_ca = "others.pem"\n'
        'certificate = "sam.crt"\nkey = "sam.key"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "stepup", *command, "--profile", "it"],
        env={"STEPUP_CTL_CONFIG": str(tmp_path / "ctl.toml"), "PATH": "/usr/bin"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert b".cc:" not in done.stderr


def test_a_certificate_for_another_host_is_said(doctor, guarded):
    port = guarded.server.address.rpartition(":")[2]
    code, findings = doctor(CLIENTS.client(SOAR, lifetime=30 * DAY), address=f"127.0.0.2:{port}")
    assert (code, states(findings)[-1][1]) == (1, "error")


def test_files_that_cannot_be_used_end_the_command(doctor):
    assert doctor(CLIENTS.client(SOAR), certificate="none.crt")[0] == 2


def test_a_running_server_is_said_to_have_its_address(guarded):
    server = guarded.server
    result = CliRunner().invoke(
        app,
        (
            *("doctor", "--json", "--config", str(guarded.directory / "stepup.toml")),
            *("--data-dir", str(server.data_dir)),
        ),
        env={"STEPUP_SERVER__LISTEN": server.address},
    )
    assert result.exit_code == 0, result.stdout
    findings = [tuple(json.loads(line).values()) for line in result.stdout.splitlines()]
    assert ("server.listen", "warning") in states(findings)
    assert ("database", "ok") in states(findings)
