"""Whatever is sent, it is refused by naming the field, and nothing is changed by it (S18)."""

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from stepup_tests.requests import METHODS, WITH_ACTOR, path_of, valid_request
from stepup_tests.wire import Client, refusal_of, served
from stepup_tests.worker import OSQUERY, SIGN_IN
from stepup_tests.world import made_for_one_test

from stepup.domain.errors import InvalidFieldError
from stepup.domain.operations import SHIPPED, Operation, OperationId
from stepup.domain.text import Title
from stepup.rpc.wire import policies
from stepup.v1 import actor_pb2, audit_service_pb2, step_up_service_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

# One server serves the module: no test changes anything, as each makes sure.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory, template):
    async with made_for_one_test(tmp_path_factory.mktemp("world"), template) as world:
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(shared_world):
    worker = await shared_world.worker()
    await worker.select(OSQUERY)
    async with served(worker) as server:
        client = Client(server.target)
        yield client
        await client.close()


async def everything(world):
    return await world.state(), world.decisions()


@pytest.fixture
def send(shared_client):
    """Sends bytes to any method."""

    async def to(path, payload):
        if METHODS[path].server_streaming:
            return await shared_client.stream(path, payload)
        return await shared_client.call(path, payload)

    return to


@pytest.fixture
def refused(shared_world, send):
    """Sends a request that must be refused, and must change nothing."""

    async def by(path, payload):
        before = await everything(shared_world)
        refusal = await refusal_of(send(path, payload))
        assert await everything(shared_world) == before
        return refusal

    return by


async def test_there_is_a_valid_request_of_every_method():
    names = {path.rpartition("/")[2] for path in METHODS}
    assert len(names) == len(METHODS) == 37
    assert all(valid_request(name) is not None for name in names)


ACTOR_METHODS = [path.rpartition("/")[2] for path in WITH_ACTOR]
BAD_IDS = {
    "a blank before it": " acme",
    "a blank after it": "acme ",
    "only blanks": "  ",
    "empty": "",
    "129 bytes": "x" * 129,
    "a letter beyond ASCII": "zoë",
    "a control character": "a\nb",
    "DEL": "a\x7f",
    "NUL": "a\x00",
}


def spoilt_id(field, value):
    def spoil(actor):
        setattr(actor, field, value)

    return f"actor.{field}", spoil


def _playbook(**values):
    def spoil(actor):
        run = {"playbook_id": "pb", "run_id": "r", "trigger": actor_pb2.PLAYBOOK_TRIGGER_MANUAL}
        actor.playbook_run.CopyFrom(actor_pb2.PlaybookRun(**(run | values)))

    [field] = values
    return f"actor.playbook_run.{field}", spoil


def _client(field, value):
    def spoil(actor):
        setattr(actor.client, field, value)

    return f"actor.client.{field}", spoil


SPOILT_ACTORS = {
    **{
        f"{field}: {name}": spoilt_id(field, value)
        for field in ("tenant_id", "user_id", "session_id")
        for name, value in {"empty": "", "129 bytes": "x" * 129}.items()
    },
    **{f"user_id: {name}": spoilt_id("user_id", value) for name, value in BAD_IDS.items()},
    "account_type: unknown": spoilt_id("account_type", 99),
    "role: unknown": spoilt_id("role", 99),
    "team: unknown": spoilt_id("team", 99),
    "team: negative": spoilt_id("team", -1),
    "retry_receipt: 513 bytes": spoilt_id("retry_receipt", "x" * 513),
    "retry_receipt: 514 bytes of 2 each": spoilt_id("retry_receipt", "é" * 257),
    "playbook_run.playbook_id: empty": _playbook(playbook_id=""),
    "playbook_run.run_id: 129 bytes": _playbook(run_id="x" * 129),
    "playbook_run.trigger: missing": _playbook(trigger=0),
    "playbook_run.trigger: unknown": _playbook(trigger=99),
    "client.address: a name": _client("address", "laptop.example"),
    "client.address: with a zone": _client("address", "fe80::1%eth0"),
    "client.user_agent: 513 characters": _client("user_agent", "x" * 513),
}


@pytest.mark.parametrize("name", ACTOR_METHODS)
async def test_a_missing_actor_is_refused(refused, name):
    request = valid_request(name)
    request.ClearField("actor")
    refusal = await refused(path_of(name), request.SerializeToString())
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["actor"])


@pytest.mark.parametrize(
    ("name", "spoilt"),
    [
        *((name, "user_id: empty") for name in ACTOR_METHODS),
        *(("VerifyOtp", spoilt) for spoilt in SPOILT_ACTORS),
    ],
)
async def test_a_spoilt_actor_is_refused(refused, name, spoilt):
    field, spoil = SPOILT_ACTORS[spoilt]
    request = valid_request(name)
    spoil(request.actor)
    refusal = await refused(path_of(name), request.SerializeToString())
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.domain, refusal.fields) == ("INVALID_FIELD", "stepup", [field])


@pytest.mark.parametrize("name", ["GetPolicy", "ListAuditEvents", "ExportAuditEvents"])
async def test_a_spoilt_tenant_is_refused(refused, name):
    request = valid_request(name)
    request.tenant_id = " acme"
    refusal = await refused(path_of(name), request.SerializeToString())
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["tenant_id"])


def spoilt(name, field, /, **values):
    """A request with some fields set to other values, and the field that it is refused for."""
    request = valid_request(name)
    for key, value in values.items():
        setattr(request, key, value)
    return name, field, request


def batch(field, *checks):
    request = valid_request("BatchCheckStepUp")
    del request.checks[:]
    request.checks.extend(step_up_service_pb2.OperationCheck(**check) for check in checks)
    return "BatchCheckStepUp", field, request


def policy(field, change):
    request = valid_request("UpdatePolicy")
    change(request)
    return "UpdatePolicy", field, request


def max_age(**duration):
    def change(request):
        request.policy.operations[0].max_age.FromNanoseconds(0)
        for key, value in duration.items():
            setattr(request.policy.operations[0].max_age, key, value)

    return policy("policy.operations[0].max_age", change)


def every_time(request):
    """Ask for a code every time, though there is a max_age."""
    request.policy.operations[0].max_age.FromSeconds(60)
    request.policy.operations[0].every_time = True


def selecting(*operations):
    def change(request):
        del request.policy.operations[:]
        for operation in operations:
            request.policy.operations.add(operation=operation)

    return change


def masking(*paths):
    def change(request):
        del request.update_mask.paths[:]
        request.update_mask.paths.extend(paths)

    return change


def issuer(text):
    def change(request):
        request.policy.issuer = text
        request.update_mask.paths.append("issuer")

    return policy("policy.issuer", change)


def enroll_by(**instant):
    def change(request):
        request.policy.enroll_by.SetInParent()
        for key, value in instant.items():
            setattr(request.policy.enroll_by, key, value)
        request.update_mask.paths.append("enroll_by")

    return policy("policy.enroll_by", change)


def challenge(field, **changed):
    """A request for three actions, of which the second is changed."""
    request = valid_request("CreateChallenge")
    for number in (2, 3):
        request.items.add(operation=OSQUERY, target=f"host-{number}", label="a host")
    for key, value in changed.items():
        setattr(request.items[1], key, value)
    return "CreateChallenge", field, request


def asking(field, **duration):
    request = valid_request("CreateChallenge")
    getattr(request, field).CopyFrom(Duration(**duration))
    return "CreateChallenge", field, request


def items(number):
    request = valid_request("CreateChallenge")
    del request.items[:]
    for index in range(number):
        request.items.add(operation=OSQUERY, target=f"host-{index}", label="a host")
    return "CreateChallenge", "items", request


def events(field, **filters):
    request = valid_request("ListAuditEvents")
    request.filter.CopyFrom(audit_service_pb2.AuditEventFilter(**filters))
    return "ListAuditEvents", field, request


BAD_CODES = {
    "missing": "",
    "full-width digits": "１２３４５６",  # noqa: RUF001  # that is the point
    "a line feed after": "123456\n",
}
BAD_UUIDS = {
    "no UUID": "request-1",
    "no dashes": "6f2c1f3e000040008000000000000001",
    "braces": "{6f2c1f3e-0000-4000-8000-000000000001}",
    "a space after": "6f2c1f3e-0000-4000-8000-000000000001 ",
    "full-width digits": "6f2c1f3e-0000-4000-8000-00000000000１",  # noqa: RUF001  # as above
}
WRONG = {
    "operation: missing": spoilt("CheckStepUp", "operation", operation=""),
    "target: 257 bytes": spoilt("CheckStepUp", "target", target="x" * 257),
    "target: 258 bytes of 2 each": spoilt("CheckStepUp", "target", target="é" * 129),
    "checks: none": batch("checks"),
    "checks: 101": batch("checks", *[{"operation": OSQUERY}] * 101),
    "checks[1].operation: missing": batch(
        "checks[1].operation", {"operation": OSQUERY}, {"target": "x"}
    ),
    "checks[1].target: 257 bytes": batch(
        "checks[1].target", {"operation": OSQUERY}, {"operation": OSQUERY, "target": "x" * 257}
    ),
    "checks[1].retry_receipt: 513 bytes": batch(
        "checks[1].retry_receipt",
        {"operation": OSQUERY},
        {"operation": OSQUERY, "retry_receipt": "x" * 513},
    ),
    **{
        f"{name} code: {kind}": spoilt(name, "code", code=code)
        for name in ("VerifyOtp", "ConfirmEnrollment", "AnswerChallenge")
        for kind, code in BAD_CODES.items()
    },
    **{
        f"{name} request_id: {kind}": spoilt(name, "request_id", request_id=value)
        for name in (
            "CheckStepUp",
            "BatchCheckStepUp",
            "VerifyOtp",
            "CreateChallenge",
            "AnswerChallenge",
        )
        for kind, value in BAD_UUIDS.items()
    },
    "items: none": items(0),
    "items: 101": items(101),
    "items[1].operation: missing": challenge("items[1].operation", operation=""),
    "items[1].operation: sign-in": challenge("items[1].operation", operation=SIGN_IN),
    "items[1].target: missing": challenge("items[1].target", target=""),
    "items[1].target: 257 bytes": challenge("items[1].target", target="x" * 257),
    "items[1].target: 258 bytes of 2 each": challenge("items[1].target", target="é" * 129),
    "items[1].label: missing": challenge("items[1].label", label=""),
    "items[1].label: blank": challenge("items[1].label", label=" \u3000"),
    "items[1].label: 201 characters": challenge("items[1].label", label="x" * 201),
    "items[1].label: a change of direction": challenge("items[1].label", label="a\u202eb"),
    "items[1]: again": challenge("items[1]", target="host-1"),
    "message: missing": spoilt("CreateChallenge", "message", message=""),
    "message: blank": spoilt("CreateChallenge", "message", message=" "),
    "message: 501 characters": spoilt("CreateChallenge", "message", message="x" * 501),
    "message: a line feed": spoilt("CreateChallenge", "message", message="a\nb"),
    **{
        f"{field}: {duration}": asking(field, **duration)
        for field, longest in (("expires_in", 600), ("valid_for", 3600))
        for duration in (
            {},
            {"seconds": -1},
            {"nanos": 500_000_000},
            {"nanos": 1_000_000_000},
            {"seconds": 1, "nanos": 1},
            {"seconds": 2, "nanos": -1_000_000_000},
            {"seconds": longest, "nanos": 1},
            {"seconds": longest + 1},
            {"seconds": 2**63 - 1},
        )
    },
    **{
        f"{verb} challenge_id: {kind}": spoilt(
            f"{verb}Challenge", "challenge_id", challenge_id=value
        )
        for verb in ("Get", "Await", "Answer", "Decline", "Cancel")
        for kind, value in {"missing": "", "no UUID": BAD_UUIDS["no UUID"]}.items()
    },
    "ListChallenges page_size: negative": spoilt("ListChallenges", "page_size", page_size=-1),
    "ListChallenges page_size: 101": spoilt("ListChallenges", "page_size", page_size=101),
    "scope: missing": spoilt("RevokeElevations", "scope", scope=0),
    "scope: unknown": spoilt("RevokeElevations", "scope", scope=3),
    "account_name: 129 bytes": spoilt("BeginEnrollment", "account_name", account_name="x" * 129),
    "account_name: blank": spoilt("BeginEnrollment", "account_name", account_name=" \u3000"),
    **{
        f"{name} reset_code: 27 characters": spoilt(name, "reset_code", reset_code="A" * 27)
        for name in ("BeginEnrollment", "ResetEnrollment")
    },
    "reset_code: missing": spoilt("ResetEnrollment", "reset_code", reset_code=""),
    "reset_code_stored: false": spoilt(
        "CompleteEnrollment", "reset_code_stored", reset_code_stored=False
    ),
    "user_id: missing": spoilt("AdminResetEnrollment", "user_id", user_id=""),
    **{
        f"{name} user_id: missing": spoilt(name, "user_id", user_id="")
        for name in ("GetPerson", "UnlockUser", "ForgetUser")
    },
    "reason: missing": spoilt("AdminResetEnrollment", "reason", reason=""),
    "reason: blank": spoilt("AdminResetEnrollment", "reason", reason="  "),
    "reason: 513 characters": spoilt("AdminResetEnrollment", "reason", reason="x" * 513),
    "policy: missing": policy("policy", lambda request: request.ClearField("policy")),
    "etag: missing": policy("policy.etag", lambda request: request.policy.ClearField("etag")),
    "update_mask: missing": policy(
        "update_mask", lambda request: request.ClearField("update_mask")
    ),
    "update_mask: empty": policy("update_mask", masking()),
    "update_mask: unknown": policy("update_mask", masking("enabled", "etag")),
    "update_mask: a path within": policy("update_mask", masking("operations.max_age")),
    "update_mask: *": policy("update_mask", masking("*")),
    "issuer: a colon": issuer("a:b"),
    "issuer: 129 bytes": issuer("x" * 129),
    "enroll_by: the year 0": enroll_by(seconds=-62_135_596_801),
    "enroll_by: the year 10000": enroll_by(seconds=253_402_300_800),
    "enroll_by: as early as can be": enroll_by(seconds=-(2**63)),
    "enroll_by: nanoseconds of a whole second": enroll_by(nanos=1_000_000_000),
    "operations: every_time with a max_age": policy("policy.operations[0].max_age", every_time),
    "operations: twice": policy("policy.operations[1].operation", selecting(OSQUERY, OSQUERY)),
    "operations: not selectable": policy(
        "policy.operations[1].operation", selecting(OSQUERY, SIGN_IN)
    ),
    "operations: missing id": policy("policy.operations[0].operation", selecting("")),
    "max_age: 0": max_age(seconds=0),
    "max_age: half a second": max_age(nanos=500_000_000),
    "max_age: one and a half": max_age(seconds=1, nanos=500_000_000),
    "max_age: a nanosecond too long": max_age(seconds=1, nanos=1),
    "max_age: a nanosecond longer than elevations live": max_age(seconds=900, nanos=1),
    "max_age: a second longer than elevations live": max_age(seconds=901),
    "max_age: negative": max_age(seconds=-1),
    "max_age: as negative as can be": max_age(seconds=-(2**63)),
    "max_age: signs that differ": max_age(seconds=2, nanos=-1_000_000_000),
    "max_age: nanoseconds of a whole second": max_age(nanos=1_000_000_000),
    "page_size: negative": spoilt("ListAuditEvents", "page_size", page_size=-1),
    "page_size: 101": spoilt("ListAuditEvents", "page_size", page_size=101),
    "page_size: huge": spoilt("ListAuditEvents", "page_size", page_size=2**31 - 1),
    "page_token: not ours": spoilt("ListAuditEvents", "page_token", page_token="2"),
    "page_token: no ASCII": spoilt("ListAuditEvents", "page_token", page_token="é"),
    "page_token: long": spoilt("ListAuditEvents", "page_token", page_token="A" * 40_000),
    "filter.user_id: 129 bytes": events("filter.user_id", user_id="x" * 129),
    "filter.kinds: unspecified": events("filter.kinds[0]", kinds=[0]),
    "filter.kinds: unknown": events("filter.kinds[1]", kinds=[1, 99]),
    "filter.kinds: 33": events("filter.kinds", kinds=[1] * 33),
    "filter.start_time: the year 10000": events(
        "filter.start_time", start_time={"seconds": 253402300800}
    ),
    "filter.end_time: before the year 1": events(
        "filter.end_time", end_time={"seconds": -62135596801}
    ),
    "filter.end_time: nanoseconds of a second": events(
        "filter.end_time", end_time={"nanos": 1_000_000_000}
    ),
    "filter.end_time: negative nanoseconds": events("filter.end_time", end_time={"nanos": -1}),
    "after_sequence: negative": spoilt("ExportAuditEvents", "after_sequence", after_sequence=-1),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_spoilt_field_is_refused(refused, wrong):
    name, field, request = WRONG[wrong]
    refusal = await refused(path_of(name), request.SerializeToString())
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.domain, refusal.fields) == ("INVALID_FIELD", "stepup", [field])


async def test_more_than_a_thousand_selected_operations_are_refused():
    added = [Operation(OperationId(f"response.added_{n}"), Title("Added")) for n in range(1001)]
    catalogue = SHIPPED.extended([], added)
    request = valid_request("UpdatePolicy")
    selecting(*(operation.id for operation in added))(request)
    with pytest.raises(InvalidFieldError) as refused:
        policies.policy_change(catalogue, request)
    assert refused.value.field == "policy.operations"


@pytest.mark.parametrize("operation", ["response.run_anything", "x" * 10_000])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("CheckStepUp", "operation"),
        ("BatchCheckStepUp", "checks[0].operation"),
        ("UpdatePolicy", "policy.operations[0].operation"),
    ],
)
async def test_an_operation_that_is_not_in_the_catalogue_is_unknown(
    refused, name, field, operation
):
    request = valid_request(name)
    holder = {
        "CheckStepUp": lambda: request,
        "BatchCheckStepUp": lambda: request.checks[0],
        "UpdatePolicy": lambda: request.policy.operations[0],
    }[name]()
    holder.operation = operation
    refusal = await refused(path_of(name), request.SerializeToString())
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == ("UNKNOWN_OPERATION", [field])


def field(number, wire_type, value=b""):
    """A field as bytes; numbers up to 2047."""
    tag = number << 3 | wire_type
    return (bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7])) + value


def nested_groups(depth):
    return field(1000, 3) * depth + field(1000, 4) * depth


GARBAGE = {
    "a tag alone": b"\x0a",
    "a length beyond the end": b"\x0a\x7f",
    "a varint without an end": b"\x08" + b"\xff" * 11,
    "wire type 7": b"\x0f",
    "a group without its end": field(1000, 3),
    "an end without its group": field(1000, 4),
    "text": b"hello, world",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "0xff": b"\xff" * 1000,
    "deeply nested groups": nested_groups(10_000),
}


@pytest.mark.parametrize(
    ("path", "garbage"),
    [
        *((path, "0xff") for path in METHODS),
        *((path_of("VerifyOtp"), garbage) for garbage in GARBAGE),
    ],
)
async def test_s18_garbage_is_refused(refused, path, garbage):
    refusal = await refused(path, GARBAGE[garbage])
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["request"])


@pytest.mark.parametrize("name", ["GetPolicy", "ListAuditEvents", "ExportAuditEvents"])
async def test_s18_a_tenant_that_is_no_utf8_is_refused(refused, name):
    refusal = await refused(path_of(name), b"\x0a\x02\xc3\x28")
    assert (refusal.reason, refusal.fields) == ("INVALID_FIELD", ["request"])


UNKNOWN_FIELDS = {
    "a varint": field(1000, 0, b"\x01"),
    "text": field(1000, 2, b"\x05hello"),
    "a group": nested_groups(1),
    "groups in groups": nested_groups(50),
}


@pytest.mark.parametrize("unknown", UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
async def test_unknown_fields_are_tolerated(send, unknown):
    """A newer client may send them."""
    payload = valid_request("GetPolicy").SerializeToString()
    assert await send(path_of("GetPolicy"), payload + unknown) == await send(
        path_of("GetPolicy"), payload
    )


@pytest.mark.parametrize("path", METHODS)
async def test_s18_a_message_over_128_kib_is_refused(refused, path):
    refusal = await refused(path, field(1000, 2, b"\x80\x80\x08" + bytes(128 * 1024)))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_s18_a_message_of_128_kib_is_taken(send):
    payload = valid_request("GetPolicy").SerializeToString()
    padding = 128 * 1024 - len(payload) - 5
    length = bytes([padding & 0x7F | 0x80, padding >> 7 & 0x7F | 0x80, padding >> 14])
    filled = payload + field(1000, 2, length + bytes(padding))
    assert len(filled) == 128 * 1024
    assert await send(path_of("GetPolicy"), filled) == await send(path_of("GetPolicy"), payload)


async def test_s18_metadata_over_16_kib_is_refused(shared_world, shared_client):
    before = await everything(shared_world)
    payload = valid_request("RevokeElevations").SerializeToString()
    metadata = [("x-request-id", "x" * 20_000)]
    refusal = await refusal_of(shared_client.call(path_of("RevokeElevations"), payload, metadata))
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.message.startswith("received metadata size exceeds hard limit")
    assert await everything(shared_world) == before


@pytest.mark.parametrize(
    "path",
    ["stepup.v1.StepUpService/Nothing", "stepup.v2.StepUpService/CheckStepUp", "nothing", "a/b/c"],
)
async def test_an_unknown_method_is_unimplemented(shared_world, shared_client, path):
    before = await everything(shared_world)
    refusal = await refusal_of(shared_client.call(path, b""))
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert await everything(shared_world) == before


async def test_s18_after_all_this_the_server_still_answers(shared_client):
    for _ in range(50):
        await refusal_of(shared_client.call(path_of("VerifyOtp"), b"\xff" * 60_000))
    await shared_client.call(path_of("ListOperations"), b"")


async def test_the_error_never_repeats_a_value(refused):
    refusal = await refused(
        path_of("VerifyOtp"), spoilt("VerifyOtp", "code", code="12345x")[2].SerializeToString()
    )
    assert "12345x" not in str(refusal)
