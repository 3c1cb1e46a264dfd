"""The error model of api.md: for every row the status, the reason, and what else comes along."""

import re
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest
import structlog
from stepup_tests.keys import fresh_ring
from stepup_tests.people import administrator, person
from stepup_tests.places import ROOT
from stepup_tests.requests import METHODS, path_of, valid_request
from stepup_tests.wire import Client, on_wire, refusal_of, served
from stepup_tests.worker import OSQUERY

from stepup.domain import errors
from stepup.domain.audit import EventKind
from stepup.rpc.wire import errors as wire
from stepup.rpc.wire.errors import to_status
from stepup.v1 import enrollment_service_pb2 as enrollment
from stepup.v1 import policy_service_pb2 as policy
from stepup.v1 import step_up_service_pb2 as step_up

INTEGRATING = ROOT / "docs" / "integrating.md"
ALICE, ROOT = person(), administrator()
FAILED = grpc.StatusCode.FAILED_PRECONDITION


def check(**fields):
    request = {"actor": on_wire(ALICE), "operation": OSQUERY} | fields
    return step_up.CheckStepUpRequest(**request)


def enabling(enabled, etag, actor=ROOT):
    return policy.UpdatePolicyRequest(
        actor=on_wire(actor),
        policy={"enabled": enabled, "etag": etag},
        update_mask={"paths": ["enabled"]},
    )


def test_the_docs_name_every_error_with_its_status():
    reasons = {(code.name, reason) for _, code, reason in wire._REASONS}  # noqa: SLF001
    others = (
        wire.unimplemented(),
        wire.unknown_service(),
        wire.expired(),
        wire.message_late(),
        wire.metadata_too_large(),
    )
    reasons |= {(status.code.name, status.reason) for status in others} | {("INTERNAL", "INTERNAL")}
    listed = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \|", INTEGRATING.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(reasons)


async def test_a_malformed_field(client):
    refusal = await refusal_of(client.step_up.CheckStepUp(check(actor=None)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    [violation] = refusal.details["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("actor", "is required")
    assert refusal.message == "actor is required"


async def test_an_unknown_operation(client):
    refusal = await refusal_of(client.step_up.CheckStepUp(check(operation="iam.unknown")))
    assert (refusal.code, refusal.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "UNKNOWN_OPERATION",
    )
    assert refusal.fields == ["operation"]


@pytest.mark.parametrize("name", ["UpdatePolicy", "AdminResetEnrollment"])
async def test_another_role(client, name):
    request = valid_request(name)
    request.actor.ClearField("role")
    refusal = await refusal_of(client.call(path_of(name), request.SerializeToString()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED")


async def _replace(client):
    return await client.enrollment.BeginEnrollment(
        enrollment.BeginEnrollmentRequest(actor=on_wire(ALICE))
    )


async def _remove(client):
    return await client.enrollment.RemoveEnrollment(
        enrollment.RemoveEnrollmentRequest(actor=on_wire(ALICE))
    )


async def _turn_off(client):
    return await client.enrollment.SetAccountMfa(
        enrollment.SetAccountMfaRequest(actor=on_wire(ALICE), enabled=False)
    )


async def _reset_another(client):
    request = enrollment.AdminResetEnrollmentRequest(
        actor=on_wire(ROOT), user_id="alice", reason="lost phone"
    )
    return await client.enrollment.AdminResetEnrollment(request)


async def _weaken(client):
    read = await client.policy.GetPolicy(policy.GetPolicyRequest(tenant_id="acme"))
    request = policy.UpdatePolicyRequest(
        actor=on_wire(ROOT),
        policy=policy.Policy(etag=read.policy.etag),
        update_mask={"paths": ["operations"]},
    )
    return await client.policy.UpdatePolicy(request)


@pytest.mark.parametrize("call", [_replace, _remove, _turn_off, _reset_another])
async def test_no_elevation(worker, client, call):
    await worker.enrol(ALICE)
    await worker.enrol(ROOT)
    refusal = await refusal_of(call(client))
    assert (refusal.code, refusal.reason) == (FAILED, "ELEVATION_REQUIRED")
    assert refusal.details["ErrorInfo"].metadata == {"next_step": "VERIFY_OTP"}
    assert "give a code first" in refusal.message


async def test_no_elevation_to_weaken_the_policy(worker, client):
    etag = (await worker.select(OSQUERY)).etag
    refusal = await refusal_of(client.policy.UpdatePolicy(enabling(False, etag)))
    assert (refusal.code, refusal.reason) == (FAILED, "ELEVATION_REQUIRED")
    assert "MFA is disabled" in refusal.message


@pytest.mark.parametrize("call", [_turn_off, _reset_another, _weaken])
async def test_no_elevation_and_no_authenticator_to_give_a_code_with(world, worker, client, call):
    """An account whose toggle a server of an earlier version left on is among them."""
    await worker.select(OSQUERY)
    world.sql("UPDATE policies SET enabled = 0")
    world.sql("INSERT INTO accounts VALUES ('acme', 'alice', 1)")
    refusal = await refusal_of(call(client))
    assert (refusal.code, refusal.reason) == (FAILED, "ELEVATION_REQUIRED")
    assert refusal.details["ErrorInfo"].metadata == {"next_step": "ENROLL"}
    assert "enrol an authenticator first (BeginEnrollment)" in refusal.message


@pytest.mark.parametrize(
    ("name", "fault", "way_on"),
    [
        ("ConfirmEnrollment", "NOTHING_PENDING", "call BeginEnrollment"),
        ("CompleteEnrollment", "NOTHING_PENDING", "call BeginEnrollment"),
        ("ResetEnrollment", "NO_AUTHENTICATOR", "BeginEnrollment enrols"),
        ("SetAccountMfa", "NO_AUTHENTICATOR", "enrol one with BeginEnrollment"),
    ],
)
async def test_no_enrollment_in_the_state_that_is_needed(client, name, fault, way_on):
    refusal = await refusal_of(client.call(path_of(name), valid_request(name).SerializeToString()))
    assert (refusal.code, refusal.reason) == (FAILED, "ENROLLMENT_STATE")
    assert refusal.details["ErrorInfo"].metadata == {"fault": fault}
    assert way_on in refusal.message


async def test_mfa_that_the_policy_enforces(worker, client):
    await worker.enrol(ALICE)
    await worker.select(OSQUERY)
    refusal = await refusal_of(_turn_off(client))
    assert (refusal.code, refusal.reason) == (FAILED, "MFA_ENFORCED_BY_POLICY")


@pytest.mark.parametrize("tenant", ["acme", "globex"])
async def test_an_etag_that_is_stale_or_of_another_tenant(worker, client, tenant):
    stale = (await worker.select(OSQUERY, tenant=tenant)).etag
    await worker.select(OSQUERY, "iam.configure_access")
    refusal = await refusal_of(client.policy.UpdatePolicy(enabling(True, stale)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_request_id_whose_first_call_is_under_way(world, worker, client):
    app = await worker.enrol(ALICE)
    request = step_up.VerifyOtpRequest(
        actor=on_wire(ALICE), code=app.code(worker.clock.now()), request_id=str(uuid4())
    )
    refusals = []

    async def send_again():
        refusals.append(await refusal_of(client.step_up.VerifyOtp(request)))

    world.database.before_transaction = send_again
    assert (await client.step_up.VerifyOtp(request)).outcome == step_up.OUTCOME_VERIFIED
    [refusal] = refusals
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "REQUEST_UNDER_WAY")
    assert refusal.details["RetryInfo"].retry_delay.seconds == 1


READERS = {
    "CheckStepUp",
    "BatchCheckStepUp",
    "ExplainStepUp",
    "GetPolicy",
    "ListAuditEvents",
    "ExportAuditEvents",
}
WRITERS = {
    "VerifyOtp",
    "RevokeElevations",
    "BeginEnrollment",
    "ConfirmEnrollment",
    "CompleteEnrollment",
    "CancelEnrollment",
    "GetEnrollment",
    "RemoveEnrollment",
    "ResetEnrollment",
    "IssueResetCode",
    "SetAccountMfa",
}


@pytest.mark.parametrize("name", sorted(READERS | WRITERS))
async def test_s17_a_database_that_cannot_be_reached(world, client, name):
    world.database.reads = world.database.writes = False
    payload = valid_request(name).SerializeToString()
    streams = METHODS[path_of(name)].server_streaming
    call = client.stream if streams else client.call
    refusal = await refusal_of(call(path_of(name), payload))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert refusal.details["RetryInfo"].retry_delay.seconds == 1


async def test_s17_redis_that_cannot_be_reached(world, worker, client):
    await worker.select(OSQUERY)
    world.elevations.finds = False
    refusal = await refusal_of(client.step_up.CheckStepUp(check()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_s17_knowledge_that_is_too_old(clock, client):
    clock.advance(seconds=6)
    refusal = await refusal_of(client.step_up.CheckStepUp(check()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_s13_a_decision_log_that_cannot_be_written(world, client):
    world.decision_log.works = False
    refusal = await refusal_of(client.step_up.CheckStepUp(check()))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")


async def test_s13_an_audit_trail_that_cannot_be_written(world, worker, client):
    world.database.audit_trail_takes_events = False
    request = valid_request("RevokeElevations")
    refusal = await refusal_of(client.step_up.RevokeElevations(request))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert await worker.events(EventKind.ELEVATIONS_REVOKED) == []


async def test_no_error_has_more_details_than_its_row_says(world, worker, client):
    await worker.enrol(ALICE)
    state = await refusal_of(_remove(client))
    world.database.reads = False
    unavailable = await refusal_of(_remove(client))
    field = await refusal_of(client.step_up.CheckStepUp(check(actor=None)))
    assert set(state.details) == {"ErrorInfo"}
    assert set(unavailable.details) == {"ErrorInfo", "RetryInfo"}
    assert set(field.details) == {"ErrorInfo", "BadRequest"}


@pytest.fixture
async def broken(world, worker):
    """A server whose key ring has lost the key of a secret, and what it logs."""
    app = await worker.enrol(ALICE)
    world.keys = fresh_ring()
    async with served(await world.worker()) as server:
        client = Client(server.target)
        request = step_up.VerifyOtpRequest(actor=on_wire(ALICE), code=app.code(worker.clock.now()))
        with structlog.testing.capture_logs() as lines:
            refusal = await refusal_of(client.step_up.VerifyOtp(request))
        await client.close()
    return refusal, lines


async def test_a_bug_is_internal_with_an_error_id_that_stands_in_the_log(broken):
    refusal, lines = broken
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    [logged] = [line for line in lines if line["event"] == "internal_error"]
    assert refusal.details["ErrorInfo"].metadata == {"error_id": logged["error_id"]}


async def test_s11_of_a_bug_nothing_but_the_error_id_gets_out(broken):
    refusal, _ = broken
    error_id = refusal.details["ErrorInfo"].metadata["error_id"]
    assert refusal.message == f"internal error {error_id}"
    assert set(refusal.details) == {"ErrorInfo"}


async def test_the_log_of_a_bug_has_its_stack_and_its_call(broken):
    _, lines = broken
    [bug, call] = [line for line in lines if line["event"] in ("internal_error", "call")]
    assert bug["exc_info"].__traceback__ is not None
    assert bug["request_id"] == call["request_id"]
    assert (call["code"], call["reason"]) == ("INTERNAL", "INTERNAL")


def test_s11_no_text_of_a_driver_gets_out():
    status = to_status(ConnectionError("postgresql://stepup:secret@db refused"), "request")
    assert "secret" not in f"{status.message} {status.details}"


def test_s11_a_caller_does_not_learn_what_operators_read_about_a_fault():
    fault = "storage.database_url: PostgreSQL at db.internal refuses the password of the user ann"
    status = to_status(errors.StoreUnavailableError("the database does not answer", fault))
    assert status.message == "the database does not answer"
    assert b"db.internal" not in status.details


def _leaves(kind):
    yield kind
    for subclass in kind.__subclasses__():
        yield from _leaves(subclass)


# What domain types raise is given its field in `convert`, and never comes as far.
REFUSALS = sorted(
    {*_leaves(errors.ServiceError)} - {errors.ServiceError, *_leaves(errors.InvalidValueError)},
    key=str,
)


@pytest.mark.parametrize("kind", REFUSALS)
def test_no_error_of_the_product_passes_for_a_bug(kind):
    error = kind.__new__(kind)
    error.field, error.problem, error.claim = "field", "problem", "claim"
    error.retry_after = timedelta(seconds=1)
    error.fault, error.is_enrolled = errors.EnrollmentFault.NO_AUTHENTICATOR, False
    error.state = None
    assert to_status(error, "request").reason != "INTERNAL"
