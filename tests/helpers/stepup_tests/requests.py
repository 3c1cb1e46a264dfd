"""A request of every method that is valid in every field: what tests then spoil."""

from google.protobuf.json_format import ParseDict

from stepup.v1 import (
    audit_service_pb2,
    challenge_service_pb2,
    enrollment_service_pb2,
    people_service_pb2,
    policy_service_pb2,
    portal_service_pb2,
    step_up_service_pb2,
)
from stepup_tests.people import administrator
from stepup_tests.wire import on_wire
from stepup_tests.worker import OSQUERY

PROTOS = (
    step_up_service_pb2,
    challenge_service_pb2,
    enrollment_service_pb2,
    people_service_pb2,
    policy_service_pb2,
    audit_service_pb2,
    portal_service_pb2,
)
CHALLENGE_ID = "00000000-0000-4000-8000-000000000003"
METHODS = {
    f"{service.full_name}/{method.name}": method
    for proto in PROTOS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Descriptors by path."""


def request_type(path):
    """The class of a method's requests."""
    return METHODS[path].input_type._concrete_class  # noqa: SLF001  # protobuf names no other way


def answer_type(path):
    """The class of a method's answers."""
    return METHODS[path].output_type._concrete_class  # noqa: SLF001  # as above


def path_of(name):
    """The path of a method, by its name alone."""
    [path] = [path for path in METHODS if path.endswith(f"/{name}")]
    return path


def valid_request(name):
    """A request of a Master Administrator of Acme that no field check refuses."""
    request = request_type(path_of(name))()
    fields = request.DESCRIPTOR.fields_by_name
    if "actor" in fields:
        request.actor.CopyFrom(on_wire(administrator()))
    if "tenant_id" in fields:
        request.tenant_id = "acme"
    return ParseDict(_FIELDS.get(name, {}), request)


_FIELDS = {
    "CheckStepUp": {"operation": OSQUERY},
    "BatchCheckStepUp": {"checks": [{"operation": OSQUERY}]},
    "ExplainStepUp": {
        "subject": {"tenant_id": "acme", "user_id": "alice", "session_id": "desk"},
        "operation": OSQUERY,
    },
    "VerifyOtp": {"code": "123456"},
    "CreateChallenge": {
        "items": [{"operation": OSQUERY, "target": "host-1", "label": "The server of Ada"}],
        "message": "Find the file",
    },
    **{
        f"{verb}Challenge": {"challenge_id": CHALLENGE_ID}
        for verb in ("Get", "Await", "Decline", "Cancel")
    },
    "AnswerChallenge": {"challenge_id": CHALLENGE_ID, "code": "123456"},
    "RevokeElevations": {"scope": "REVOCATION_SCOPE_USER"},
    "ConfirmEnrollment": {"code": "123456"},
    "CompleteEnrollment": {"reset_code_stored": True},
    "ResetEnrollment": {"reset_code": "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA-A"},
    "AdminResetEnrollment": {"user_id": "alice", "reason": "lost phone"},
    "SetAccountMfa": {"enabled": True},
    "GetPerson": {"user_id": "alice"},
    "UnlockUser": {"user_id": "alice", "reason": "guessed by a colleague"},
    "ForgetUser": {"user_id": "alice", "reason": "left"},
    "ImportAuthenticators": {
        "authenticators": [
            {"user_id": "alice", "otpauth_uri": f"otpauth://totp/alice?secret={'A' * 32}"}
        ],
    },
    "UpdatePolicy": {
        "policy": {"etag": "etag", "enabled": True, "operations": [{"operation": OSQUERY}]},
        "update_mask": "enabled,operations",
    },
    "CreatePortalSession": {
        "page": "PORTAL_PAGE_STEP_UP",
        "return_url": "https://console.example/settings",
    },
    "RedeemPortalSession": {"token": "t" * 43},
}
WITH_ACTOR = [path for path in METHODS if "actor" in request_type(path).DESCRIPTOR.fields_by_name]
