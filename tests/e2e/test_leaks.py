"""S11: no secret in anything that is written."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from e2e.clients import GrpCurl, Refused
from e2e.leaks import Secrets, leaks
from e2e.people import (
    OSQUERY,
    administrator,
    begin,
    check,
    confirm,
    enrol,
    person,
    protect,
    verify,
)
from e2e.processes import PROGRAMS

pytestmark = pytest.mark.e2e

TENANT = "acme"


def export(client):
    """The audit events as they come, before anything is made of them."""
    return subprocess.run(
        [
            *(PROGRAMS / "grpcurl", "-plaintext", "-emit-defaults"),
            *("-d", json.dumps({"tenant_id": TENANT})),
            *(client.server.address, "stepup.v1.AuditService/ExportAuditEvents"),
        ],
        capture_output=True,
        timeout=30,
        check=True,
    ).stdout


def use_every_secret(client):
    """Send and get every kind of secret, in calls that succeed, are answered no, and fail."""
    bob, elsewhere = person(TENANT, "bob"), person(TENANT, "bob", "tuesday")
    protect(client, administrator(TENANT), OSQUERY)
    begin(client, bob, account_name="bob@acme.example")
    confirm(client, bob, "000000")
    enrolled = enrol(client, bob)
    for code in (enrolled.code, enrolled.app.wrong_code()):
        verify(client, elsewhere, code)
    receipt = check(client, bob, OSQUERY, "host-7")["receipt"]
    for retry in (receipt, receipt, receipt[:-4] + "AAAA"):
        check(client, bob | {"retry_receipt": retry}, OSQUERY, "host-7")
    attempt = {"actor": bob, "code": enrolled.code, "request_id": "not a UUID"}
    for method, refused in (
        ("StepUpService/VerifyOtp", attempt),
        ("EnrollmentService/ResetEnrollment", {"actor": bob, "reset_code": "too-short-a-code"}),
        ("EnrollmentService/ConfirmEnrollment", {"actor": elsewhere, "code": enrolled.code}),
    ):
        with pytest.raises(Refused):
            client.call(method, refused)
    wrong = {"actor": bob, "reset_code": "QWERT-YUIOP-ASDFG-HJKLZ-XCVBN-M"}
    client.call("EnrollmentService/ResetEnrollment", wrong)
    replaced = enrol(client, elsewhere, reset_code=enrolled.reset_code)
    right = {"actor": bob, "reset_code": replaced.reset_code}
    client.call("EnrollmentService/ResetEnrollment", right)


@pytest.fixture
def verbose(start_server):
    """A server that writes all it ever writes."""
    return start_server("--log-level", "debug")


def test_no_secret_is_written(verbose):
    client = GrpCurl(verbose)
    use_every_secret(client)
    texts = {"audit events": export(client)}
    verbose.kill()
    verbose.restart()
    texts["audit events after a restart"] = export(client)
    verbose.terminate()
    verbose.secrets.note_keys(verbose.data_dir / "keys.json")
    texts |= {
        "stdout": verbose.stdout.read_bytes(),
        "stderr": verbose.stderr.read_bytes(),
    }
    assert len(verbose.secrets.codes) >= 4
    assert len(verbose.secrets.others) >= 20
    assert not list(leaks(verbose.secrets, verbose.data_dir, texts))


def test_s11_neither_the_server_nor_its_store_can_leave_a_core(shared_server):
    for pid in (shared_server.pid, shared_server.embedded_store):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 +bytes", limits, re.MULTILINE), limits


@pytest.fixture
def planted(tmp_path):
    """Where a secret can be planted: a data directory, and what was used beside it."""
    secrets = Secrets()
    secrets.note({"code": "314159", "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"})
    return secrets, tmp_path


@pytest.mark.parametrize(
    "line", [b'{"code": "314159"}', b"314159\n", b"T05:42:03.000001Z 314159 typed"]
)
def test_the_canary_finds_a_code_in_a_log(planted, line):
    secrets, data_dir = planted
    (data_dir / "decisions.jsonl").write_bytes(line)
    assert [secret for _, secret in leaks(secrets, data_dir, {})] == ["314159"]


@pytest.mark.parametrize("line", [b"T05:42:03.314159+00:00", b"duration_ms=13141592"])
def test_the_canary_takes_no_other_number_for_a_code(planted, line):
    secrets, data_dir = planted
    assert not list(leaks(secrets, data_dir, {"stderr": line}))


@pytest.mark.parametrize(
    "octets",
    [
        b"\x00\xffJBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\x00",
        b"\x00Hello!\xde\xad\xbe\xefHello!\xde\xad\xbe\xef\x00",
    ],
    ids=["base32", "octets"],
)
def test_the_canary_finds_a_secret_in_any_file(planted, octets):
    secrets, data_dir = planted
    (data_dir / "valkey").mkdir()
    (data_dir / "valkey" / "file.aof").write_bytes(octets)
    assert list(leaks(secrets, data_dir, {}))
