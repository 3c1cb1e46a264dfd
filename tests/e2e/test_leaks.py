"""S11: no secret in anything that is written."""

import re
import signal
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.guarded import (
    CLIENTS,
    SOAR,
    TokenIssuer,
    bearing,
    configured,
    presenting,
    tls,
)
from stepup_tests.e2e.leaks import leaks
from stepup_tests.e2e.load import connection
from stepup_tests.e2e.metrics import LISTEN, exposed, metrics
from stepup_tests.e2e.people import (
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
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import DIRECT, EMBEDDED, TOPOLOGY

from stepup.v1 import actor_pb2, enrollment_service_pb2_grpc, step_up_service_pb2_grpc
from stepup.v1.enrollment_service_pb2 import ResetEnrollmentRequest
from stepup.v1.step_up_service_pb2 import VerifyOtpRequest

pytestmark = pytest.mark.e2e

TENANT = "acme"
WEB = "spiffe://acme/ns/prod/sa/web"
RULES = f"""
[portal]
public_url = "https://mfa.example"

[[callers]]
name = "soar"
identities = ["{SOAR}", "jwt:https://issuer.example#soar"]
return_origins = ["https://console.example"]

[[callers.rules]]
methods = ["*"]
tenants = ["*"]
operations = ["*"]
claims = ["master_administrator", "timed_out_retry", "operator"]

[[callers]]
name = "web"
portal = true
identities = ["{WEB}", "jwt:https://issuer.example#web"]

[[callers.rules]]
methods = ["*"]
tenants = ["*"]
"""


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
    enrol(client, elsewhere, reset_code=enrolled.reset_code)
    issued = client.call("EnrollmentService/IssueResetCode", {"actor": elsewhere})
    right = {"actor": bob, "reset_code": issued["reset_code"]}
    import_secrets(client)
    client.call("EnrollmentService/ResetEnrollment", right)


def import_secrets(client):
    """Import key URIs that are taken and that are refused, each for its reason, and too many."""
    uris = {
        "ivan": "otpauth://totp/ivan?secret=MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U",
        "ivan ": "otpauth://totp/ivan?secret=NFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U",
        "bob": "otpauth://totp/bob?secret=OFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U",
        "judy": "otpauth://totp/judy?secret=PFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U&digits=8",
        "mallory": "otpauth://totp/mallory?secret=QFRGGZDFMZTWQ2LK",
        "oscar": "otpauth:totp?secret=RFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U#",
    }
    entries = [{"user_id": user, "otpauth_uri": uri} for user, uri in uris.items()]
    actor = {"tenant_id": TENANT, "operator": {"name": "sam", "reason": "ticket 1"}}
    for dry_run in (True, False):
        request = {"actor": actor, "authenticators": entries, "dry_run": dry_run}
        answer = client.call("PeopleService/ImportAuthenticators", request)
    outcomes = [each["outcome"].removeprefix("IMPORT_OUTCOME_") for each in answer["results"]]
    assert outcomes == [
        "IMPORTED",
        "INVALID",
        "HAS_AUTHENTICATOR",
        "UNSUPPORTED",
        "WEAK",
        "INVALID",
    ]
    too_many = {"actor": actor, "authenticators": entries * 20}
    with pytest.raises(Refused):
        client.call("PeopleService/ImportAuthenticators", too_many)


def visit_portal(client, web_options):
    """Open a portal session, and use its token and its id, also where they are refused."""
    server = client.server
    created = client.call(
        "PortalService/CreatePortalSession",
        {
            "actor": person(TENANT, "bob"),
            "page": "PORTAL_PAGE_ACCOUNT",
            "return_url": "https://console.example/",
        },
    )
    token = created["url"].rpartition("/")[2]
    server.secrets.others.add(token.encode())
    web = GrpCurl(server, *web_options)
    session_id = web.call("PortalService/RedeemPortalSession", {"token": token})["session_id"]
    server.secrets.others.add(session_id.encode())
    within = GrpCurl(server, *web_options, "-H", f"stepup-portal-session: {session_id}")
    within.call("EnrollmentService/GetEnrollment", {})
    doubled = ("-H", f"stepup-portal-session: {session_id}") * 2
    for refused, method, request in (
        (web, "PortalService/RedeemPortalSession", {"token": token}),
        (client, "PortalService/RedeemPortalSession", {"token": token}),
        (within, "AuditService/ListAuditEvents", {}),
        (within, "EnrollmentService/GetEnrollment", {"actor": person(TENANT, "eve")}),
        (GrpCurl(server, *web_options, *doubled), "EnrollmentService/GetEnrollment", {}),
    ):
        with pytest.raises(Refused):
            refused.call(method, request)
    within.call("PortalService/EndPortalSession", {})
    with pytest.raises(Refused, match="UNAUTHENTICATED"):
        within.call("PortalService/GetPortalSession", {})


def seal_broken(server, user):
    """Alter what is stored of a secret."""
    execute(
        server.site.database_url,
        "UPDATE authenticators SET ciphertext = :nothing WHERE user_id = :user",
        nothing=bytes(48),
        user=user,
    )


def fail_inside(client, actor):
    """Give a right code to a server that cannot open the secret: an error with a stack."""
    code = enrol(client, actor).app.code()
    seal_broken(client.server, actor["user_id"])
    with pytest.raises(Refused, match="INTERNAL"):
        verify(client, actor, code)


def be_turned_away(server, issuer, certified):
    """Present tokens that are not good, each with a signature that is."""
    for token in (
        issuer.token(aud="other"),
        issuer.token(exp=1),
        issuer.token(sub="other"),
        TokenIssuer().token(),
        f"{issuer.token()}.",
    ):
        with pytest.raises(Refused):
            check(GrpCurl(server, *certified, *bearing(token)), person(TENANT, "bob"), OSQUERY)


def on_the_wire(server, credential, token):
    """What comes beside the answers to calls that carry secrets: errors, headers, trailers."""
    actor, pieces = actor_pb2.ActorContext(**person(TENANT, "bob")), []
    with connection(server, credential) as channel:
        verify_otp = step_up_service_pb2_grpc.StepUpServiceStub(channel).VerifyOtp
        reset = enrollment_service_pb2_grpc.EnrollmentServiceStub(channel).ResetEnrollment
        for method, request in (
            (verify_otp, VerifyOtpRequest(actor=actor, code="271828")),
            (verify_otp, VerifyOtpRequest(actor=actor, code="161803", request_id="no UUID")),
            (reset, ResetEnrollmentRequest(actor=actor, reset_code="too-short-a-code")),
        ):
            server.secrets.note(MessageToDict(request, preserving_proto_field_name=True))
            bearer = (("authorization", f"Bearer {token}"),)
            try:
                _, ended = method.with_call(request, metadata=bearer, timeout=20)
            except grpc.RpcError as error:
                ended = error
            pieces.append(ended.details())
            for metadata in (ended.initial_metadata(), ended.trailing_metadata()):
                pieces += [value for pair in metadata for value in pair]
    return b"\n".join(each if isinstance(each, bytes) else each.encode() for each in pieces)


def exports(server, directory):
    """What the commands print of a server's audit trail and keys."""
    printed = {}
    for command in (
        ("audit", "export", "--tenant", TENANT, "--format", "jsonl"),
        ("audit", "export", "--tenant", TENANT, "--format", "ocsf"),
        ("keys", "status", "--json"),
    ):
        done = run([PROGRAMS / "stepup", *command, "--data-dir", server.data_dir], directory)
        assert done.returncode == 0, done.stderr
        printed[" ".join(command)] = f"{done.stdout}{done.stderr}".encode()
    return printed


def all_is_exported(server):
    """Whether no span waits."""
    shown = metrics(server)
    return shown["stepup_spans_exported_total",] == shown["stepup_spans_total",]


@pytest.mark.topologies(*DIRECT, reason="callers have certificates")
def test_no_secret_is_written(tmp_path, monkeypatch, start_server, collector):
    """By a server that writes all it ever writes; its callers have every kind of credential."""
    issuer, credential = TokenIssuer(), CLIENTS.client(SOAR)
    traces = f'[traces]\nendpoint = "{collector.endpoint}"'
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    config = configured(tmp_path, LISTEN, traces, tls(tmp_path), issuer.trusted(tmp_path), RULES)
    server = start_server(*config, "--log-level", "debug", insecure=False)
    secrets = server.secrets
    secrets.note_private_key((tmp_path / "server.key").read_bytes())
    certified, token = presenting(tmp_path, credential), issuer.token()
    client = GrpCurl(server, *certified, *bearing(token))

    use_every_secret(client)
    (tmp_path / "web").mkdir()
    web = presenting(tmp_path / "web", CLIENTS.client(WEB))
    visit_portal(client, (*web, *bearing(issuer.token(sub="web"))))
    be_turned_away(server, issuer, certified)
    fail_inside(client, person(TENANT, "eve"))
    export = ("stepup.v1.AuditService/ExportAuditEvents",)
    texts = {
        "audit events": client.printed(*export, request={"tenant_id": TENANT}),
        "reflection": client.printed("list") + client.printed("describe"),
        "headers and trailers": on_the_wire(server, credential, token),
        "metrics": exposed(server).encode(),
    }
    eventually(lambda: all_is_exported(server), "the spans arrive")
    server.kill()
    server.restart()
    texts["audit events after a restart"] = client.printed(*export, request={"tenant_id": TENANT})
    texts |= exports(server, tmp_path)
    server.terminate()

    secrets.note_keys(server.data_dir / "keys.json")
    texts["spans"] = collector.written
    texts |= {"stdout": server.stdout.read_bytes(), "stderr": server.stderr.read_bytes()}
    assert b"Traceback" in texts["stderr"]
    assert b"INVALID_FIELD" in texts["headers and trailers"]
    assert b"ENROLLMENT_COMPLETED" in texts["audit events"]
    assert b"stepup_" in texts["metrics"]
    assert b"VerifyOtp" in texts["spans"]
    assert b"PORTAL_SESSION_ENDED" in texts["audit events"]
    assert len(secrets.codes) >= 6
    assert len(secrets.others) >= 40
    leaked = list(leaks(secrets, server.data_dir, texts, server.site.files()))
    assert not leaked, leaked


def test_s11_a_stack_shows_no_secret(start_server):
    """On a console; JSON has its stack in `test_no_secret_is_written`."""
    server = start_server("--log-level", "debug", "--log-format", "console")
    fail_inside(GrpCurl(server), person(TENANT, "eve"))
    assert "SealBrokenError" in server.stderr.read_text()  # that it holds no secret, says serving()


def test_s11_a_crash_shows_no_secret(monkeypatch, start_server):
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    server = start_server("--log-level", "debug")
    enrol(GrpCurl(server), person(TENANT, "eve"))
    assert server.crash() == -signal.SIGSEGV
    assert "Segmentation fault" in server.stderr.read_text()  # as above


def test_s11_neither_the_server_nor_its_store_can_leave_a_core(shared_server):
    stores = [shared_server.embedded_store] if TOPOLOGY == EMBEDDED else []
    for pid in (shared_server.pid, *stores):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 +bytes", limits, re.MULTILINE), limits
