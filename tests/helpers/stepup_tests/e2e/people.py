"""Who calls are made for, and what they do again and again."""

from dataclasses import dataclass
from typing import Any

from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.clients import Client, Json

OSQUERY = "response.run_osquery"
SHELL = "response.start_remote_shell"
API_KEYS = "iam.configure_api_keys"
SIGN_IN = "account.sign_in"


def person(tenant: str, user: str, session: str = "monday", **context: Any) -> Json:
    """An actor context."""
    return {"tenant_id": tenant, "user_id": user, "session_id": f"{user}-{session}", **context}


def administrator(tenant: str, user: str = "ada", session: str = "monday") -> Json:
    """The actor context of a Master Administrator."""
    return person(tenant, user, session, role="ROLE_MASTER_ADMINISTRATOR")


def check(client: Client, actor: Json, operation: str, target: str = "") -> Json:
    """Ask whether a code is needed."""
    request = {"actor": actor, "operation": operation, "target": target}
    return client.call("StepUpService/CheckStepUp", request)


def verdict(client: Client, actor: Json, operation: str, target: str = "") -> tuple[str, str]:
    """Decision and reason of a check, without their prefixes."""
    answer = check(client, actor, operation, target)
    return (
        answer["decision"].removeprefix("DECISION_"),
        answer["reason"].removeprefix("DECISION_REASON_"),
    )


def verify(client: Client, actor: Json, code: str) -> Json:
    """Type a code."""
    return client.call("StepUpService/VerifyOtp", {"actor": actor, "code": code})


def policy_of(client: Client, tenant: str) -> Json:
    """The policy as it is stored."""
    return client.call("PolicyService/GetPolicy", {"tenant_id": tenant})["policy"]


def update_policy(client: Client, admin: Json, **fields: Any) -> Json:
    """Change some fields of the policy as it is now."""
    etag = policy_of(client, admin["tenant_id"])["etag"]
    return client.call(
        "PolicyService/UpdatePolicy",
        {
            "actor": admin,
            "policy": {"etag": etag, **fields},
            "update_mask": client.mask(*fields),
        },
    )["policy"]


def protect(client: Client, admin: Json, *operations: str) -> Json:
    """Enable MFA for some operations."""
    selected = [{"operation": operation} for operation in operations]
    return update_policy(client, admin, enabled=True, operations=selected)


@dataclass(frozen=True)
class Enrolled:
    """What a person has after the wizard; `code` is the one that confirmed it."""

    app: AuthenticatorApp
    reset_code: str
    code: str


def begin(client: Client, actor: Json, **fields: Any) -> Json:
    """Open the wizard."""
    return client.call("EnrollmentService/BeginEnrollment", {"actor": actor, **fields})


def confirm(client: Client, actor: Json, code: str) -> Json:
    """Type the first code."""
    return client.call("EnrollmentService/ConfirmEnrollment", {"actor": actor, "code": code})


def complete(client: Client, actor: Json) -> Json:
    """Close the wizard."""
    request = {"actor": actor, "reset_code_stored": True}
    return client.call("EnrollmentService/CompleteEnrollment", request)


def enrol(client: Client, actor: Json, **fields: Any) -> Enrolled:
    """Go through the wizard, which leaves the session elevated."""
    app = AuthenticatorApp(begin(client, actor, **fields)["secret"])
    confirmed: Json = {}
    while "reset_code" not in confirmed:  # on a busy machine a code's 30 seconds may be over
        code = app.code(lasting=4)
        confirmed = confirm(client, actor, code)
    complete(client, actor)
    return Enrolled(app, confirmed["reset_code"], code)


def standing(client: Client, actor: Json) -> Json:
    """Where a person's enrollment stands."""
    return client.call("EnrollmentService/GetEnrollment", {"actor": actor})


def events(client: Client, tenant: str, **fields: Any) -> list[Json]:
    """The first page of a tenant's audit events."""
    request = {"tenant_id": tenant, **fields}
    return client.call("AuditService/ListAuditEvents", request).get("events", [])


def kinds(listed: list[Json]) -> list[str]:
    """The kinds of events, without their prefix."""
    return [event["kind"].removeprefix("AUDIT_EVENT_KIND_") for event in listed]
