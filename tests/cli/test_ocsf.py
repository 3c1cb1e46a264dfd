"""Every kind of event is an OCSF event that the schema of that version takes."""

import json
from datetime import UTC, datetime
from functools import cache

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from stepup.cli.ocsf.decisions import ocsf_decision
from stepup.cli.ocsf.events import ocsf
from stepup.cli.ocsf.records import VERSION
from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind

SCHEMA = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
DETAILS = {
    EventKind.OTP_REJECTED: {"cause": "replayed"},
    EventKind.RECEIPT_REDEEMED: {"redeemed_decision_id": "0d1", "operation": "x.y"},
    EventKind.CLAIM_REFUSED: {"method": "CheckStepUp", "claim": "managed_services"},
    EventKind.ACCOUNT_MFA_CHANGED: {"enabled": True},
    EventKind.CHALLENGE_CREATED: {"challenge_id": "c4a1"},
    EventKind.CHALLENGE_DECLINED: {"challenge_id": "c4a1"},
    EventKind.CHALLENGE_CANCELLED: {"challenge_id": "c4a1"},
    EventKind.CHALLENGE_EXPIRED: {"challenge_id": "c4a1"},
    EventKind.CHALLENGE_ITEM_USED: {"challenge_id": "c4a1"},
    EventKind.CHALLENGE_CANCELLED_BY_OPERATOR: {"challenge_id": "c4a1"},
    EventKind.OPERATOR_READ: {"method": "GetPerson"},
    EventKind.PORTAL_SESSION_CREATED: {"page": "account"},
}
OF_THE_TENANT = {
    EventKind.POLICY_CHANGED,
    EventKind.POLICY_CHANGED_BY_OPERATOR,
    EventKind.AUDIT_PRUNED,
}
AUTHENTICATION, ACCOUNT_CHANGE, API_ACTIVITY = 3002, 3001, 6003


def an_event(kind, *, actor="ada", subject="bob", client=None, **details):
    return ChainedEvent.after(
        4,
        NO_HASH,
        Event(
            tenant_id=TenantId("acme"),
            kind=kind,
            occurred_at=datetime(2026, 3, 1, 12, 0, 0, 123999, tzinfo=UTC),
            caller=CallerId("spiffe://example/console"),
            actor_user_id=actor and UserId(actor),
            subject_user_id=None if kind in OF_THE_TENANT else subject and UserId(subject),
            details={"session": "5e55", **DETAILS.get(kind, {}), **details},
            event_id="00000000-0000-4000-8000-000000000001",
            client=client,
        ),
    )


@cache
def validator_of(class_uid):
    name = SCHEMA.lookup_class_name_from_uid(class_uid)
    return Draft202012Validator(SCHEMA.get_class_schema(name, profiles=[]))


@cache
def captions_of(class_uid):
    """The names of the numbers of a class, by attribute."""
    published = get_ocsf_schema(version=VERSION)["classes"]
    attributes = next(each for each in published.values() if each["uid"] == class_uid)["attributes"]
    return {
        name: {int(number): entry["caption"] for number, entry in attributes[name]["enum"].items()}
        for name in ("severity_id", "status_id", "activity_id")
    }


def check(record):
    """Demand of a record what the published schema demands, and return it as JSON has it."""
    read = json.loads(json.dumps(record))
    problems = [
        f"{error.json_path}: {error.message}"
        for error in validator_of(read["class_uid"]).iter_errors(read)
    ]
    assert not problems, problems
    return read


def test_the_schema_finds_what_is_not_ocsf():
    record = ocsf(an_event(EventKind.OTP_VERIFIED))
    for broken in ({"severity_id": "low"}, {"colour": "red"}, {"user": None}):
        assert list(validator_of(AUTHENTICATION).iter_errors({**record, **broken}))


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_is_what_its_class_demands(kind):
    event = check(ocsf(an_event(kind)))
    assert event["metadata"]["version"] == "1.8.0"
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]


@pytest.mark.parametrize("kind", EventKind)
def test_names_are_those_of_the_numbers(kind):
    event = ocsf(an_event(kind))
    captions = captions_of(event["class_uid"])
    for number, name in (("severity_id", "severity"), ("status_id", "status")):
        assert captions[number][event[number]] == event[name]
    caption = captions["activity_id"][event["activity_id"]]
    assert caption in (event["activity_name"], "Other")
    assert event["type_name"] == f"{event['class_name']}: {caption}"


@pytest.mark.parametrize(
    ("kind", "class_uid", "activity_id", "status"),
    [
        (EventKind.OTP_VERIFIED, AUTHENTICATION, 1, "Success"),
        (EventKind.OTP_REJECTED, AUTHENTICATION, 1, "Failure"),
        (EventKind.RESET_CODE_REJECTED, AUTHENTICATION, 1, "Failure"),
        (EventKind.ATTEMPTS_REFUSED, AUTHENTICATION, 1, "Failure"),
        (EventKind.ENROLLMENT_BEGUN, ACCOUNT_CHANGE, 99, "Success"),
        (EventKind.ENROLLMENT_CONFIRMED, ACCOUNT_CHANGE, 99, "Success"),
        (EventKind.ENROLLMENT_REJECTED, ACCOUNT_CHANGE, 10, "Failure"),
        (EventKind.ENROLLMENT_COMPLETED, ACCOUNT_CHANGE, 10, "Success"),
        (EventKind.ENROLLMENT_CANCELLED, ACCOUNT_CHANGE, 99, "Success"),
        (EventKind.AUTHENTICATOR_REMOVED, ACCOUNT_CHANGE, 11, "Success"),
        (EventKind.AUTHENTICATOR_RESET, ACCOUNT_CHANGE, 11, "Success"),
        (EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR, ACCOUNT_CHANGE, 11, "Success"),
        (EventKind.ACCOUNT_MFA_CHANGED, ACCOUNT_CHANGE, 10, "Success"),
        (EventKind.POLICY_CHANGED, API_ACTIVITY, 3, "Success"),
        (EventKind.ELEVATIONS_REVOKED, API_ACTIVITY, 4, "Success"),
        (EventKind.RECEIPT_REDEEMED, API_ACTIVITY, 99, "Success"),
        (EventKind.CLAIM_REFUSED, API_ACTIVITY, 99, "Failure"),
        (EventKind.CHALLENGE_APPROVED, AUTHENTICATION, 1, "Success"),
        (EventKind.CHALLENGE_CREATED, API_ACTIVITY, 1, "Success"),
        (EventKind.CHALLENGE_DECLINED, API_ACTIVITY, 3, "Success"),
        (EventKind.CHALLENGE_CANCELLED, API_ACTIVITY, 3, "Success"),
        (EventKind.CHALLENGE_EXPIRED, API_ACTIVITY, 3, "Success"),
        (EventKind.CHALLENGE_ITEM_USED, API_ACTIVITY, 99, "Success"),
        (EventKind.PORTAL_SESSION_CREATED, API_ACTIVITY, 1, "Success"),
        (EventKind.PORTAL_SESSION_OPENED, API_ACTIVITY, 99, "Success"),
        (EventKind.PORTAL_SESSION_ENDED, API_ACTIVITY, 4, "Success"),
        (EventKind.RESET_CODE_ISSUED, ACCOUNT_CHANGE, 99, "Success"),
        (EventKind.USER_UNLOCKED, ACCOUNT_CHANGE, 12, "Success"),
        (EventKind.USER_UNLOCKED_BY_OPERATOR, ACCOUNT_CHANGE, 12, "Success"),
        (EventKind.USER_FORGOTTEN, ACCOUNT_CHANGE, 6, "Success"),
        (EventKind.USER_FORGOTTEN_BY_OPERATOR, ACCOUNT_CHANGE, 6, "Success"),
        (EventKind.USER_DEPROVISIONED, ACCOUNT_CHANGE, 6, "Success"),
        (EventKind.AUTHENTICATOR_IMPORTED, ACCOUNT_CHANGE, 10, "Success"),
        (EventKind.AUTHENTICATOR_RESET_BY_OPERATOR, ACCOUNT_CHANGE, 11, "Success"),
        (EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS, ACCOUNT_CHANGE, 11, "Success"),
        (EventKind.POLICY_CHANGED_BY_OPERATOR, API_ACTIVITY, 3, "Success"),
        (EventKind.ELEVATIONS_REVOKED_BY_OPERATOR, API_ACTIVITY, 4, "Success"),
        (EventKind.CHALLENGE_CANCELLED_BY_OPERATOR, API_ACTIVITY, 3, "Success"),
        (EventKind.OPERATOR_READ, API_ACTIVITY, 2, "Success"),
        (EventKind.AUDIT_PRUNED, API_ACTIVITY, 4, "Success"),
    ],
)
def test_a_kind_of_event_is_an_activity_of_a_class(kind, class_uid, activity_id, status):
    event = ocsf(an_event(kind))
    assert (event["class_uid"], event["activity_id"], event["status"]) == (
        class_uid,
        activity_id,
        status,
    )


def test_turning_mfa_off_is_another_activity_than_turning_it_on():
    assert ocsf(an_event(EventKind.ACCOUNT_MFA_CHANGED, enabled=False))["activity_id"] == 11


def test_who_did_what_to_whom_where_and_when():
    event = ocsf(an_event(EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR))
    assert event["time"] == 1772366400123
    assert event["actor"] == {
        "user": {"uid": "ada"},
        "session": {"uid": "5e55"},
        "app_name": "spiffe://example/console",
    }
    assert event["user"] == {"uid": "bob"}
    assert event["src_endpoint"] == {"svc_name": "spiffe://example/console"}
    metadata = event["metadata"]
    assert (metadata["tenant_uid"], metadata["sequence"], metadata["event_code"]) == (
        "acme",
        5,
        "authenticator_reset_by_administrator",
    )
    assert metadata["uid"] == "00000000-0000-4000-8000-000000000001"
    assert metadata["original_time"] == "2026-03-01T12:00:00.123999+00:00"


@pytest.mark.parametrize(
    ("details", "user"),
    [
        ({}, {}),
        (
            {"operator": {"name": "pat", "reason": "ticket 7"}},
            {"user": {"name": "pat", "type": "Operator"}},
        ),
    ],
)
def test_only_a_person_who_acted_is_the_user_of_the_actor(details, user):
    chained = an_event(EventKind.OPERATOR_READ, actor=None, subject=None, **details)
    event = check(ocsf(chained))
    assert event["actor"] == {
        **user,
        "session": {"uid": "5e55"},
        "app_name": "spiffe://example/console",
    }
    assert event["resources"] == [{"type": "users", "uid": "acme"}]


def test_no_fact_of_an_event_is_lost():
    chained = an_event(EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR, reason="lost phone")
    assert ocsf(chained)["unmapped"] == {
        "details": {"session": "5e55", "reason": "lost phone"},
        "previous_hash": chained.previous_hash.hex(),
        "hash": chained.hash.hex(),
    }


def test_the_call_that_an_event_is_of_correlates_it_with_the_logs():
    event = ocsf(an_event(EventKind.OTP_VERIFIED, request_id="request-1"))
    assert event["metadata"]["correlation_uid"] == "request-1"


@pytest.mark.parametrize(
    ("kind", "details", "severity"),
    [
        (EventKind.OTP_VERIFIED, {}, "Informational"),
        (EventKind.OTP_REJECTED, {"locked_until": None, "suspended": False}, "Low"),
        (EventKind.OTP_REJECTED, {"locked_until": "2026-03-01T12:15:00+00:00"}, "Medium"),
        (EventKind.OTP_REJECTED, {"locked_until": None, "suspended": True}, "High"),
        (EventKind.RESET_CODE_REJECTED, {"suspended": True}, "High"),
        (EventKind.CLAIM_REFUSED, {}, "High"),
        (EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS, {}, "High"),
    ],
)
def test_an_attempt_is_the_more_severe_the_more_it_led_to(kind, details, severity):
    assert ocsf(an_event(kind, **details))["severity"] == severity


@pytest.mark.parametrize(("codes", "protocol"), [("one_time", "TOTP"), ("reset", "Reset code")])
def test_refused_attempts_say_which_codes_and_why(codes, protocol):
    refused = ocsf(an_event(EventKind.ATTEMPTS_REFUSED, codes=codes, cause="throttled"))
    assert (refused["auth_protocol"], refused["status_detail"]) == (protocol, "throttled")


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [(EventKind.OTP_REJECTED, "TOTP"), (EventKind.RESET_CODE_REJECTED, "Reset code")],
)
def test_codes_of_both_kinds_are_told_apart(kind, protocol):
    assert ocsf(an_event(kind))["auth_protocol"] == protocol


@pytest.mark.parametrize(
    ("kind", "operation", "resource"),
    [
        (EventKind.POLICY_CHANGED, "UpdatePolicy", ("policy", "acme")),
        (EventKind.ELEVATIONS_REVOKED, "RevokeElevations", ("elevations", "bob")),
        (EventKind.RECEIPT_REDEEMED, "CheckStepUp", ("receipt", "0d1")),
        (EventKind.CLAIM_REFUSED, "CheckStepUp", ("claim", "managed_services")),
        (EventKind.CHALLENGE_CREATED, "CreateChallenge", ("challenge", "c4a1")),
        (EventKind.CHALLENGE_DECLINED, "DeclineChallenge", ("challenge", "c4a1")),
        (EventKind.CHALLENGE_CANCELLED, "CancelChallenge", ("challenge", "c4a1")),
        (EventKind.CHALLENGE_EXPIRED, "CreateChallenge", ("challenge", "c4a1")),
        (EventKind.CHALLENGE_ITEM_USED, "CheckStepUp", ("challenge", "c4a1")),
        (EventKind.POLICY_CHANGED_BY_OPERATOR, "UpdatePolicy", ("policy", "acme")),
        (EventKind.ELEVATIONS_REVOKED_BY_OPERATOR, "RevokeElevations", ("elevations", "bob")),
        (EventKind.CHALLENGE_CANCELLED_BY_OPERATOR, "CancelChallenge", ("challenge", "c4a1")),
        (EventKind.OPERATOR_READ, "GetPerson", ("user", "bob")),
        (EventKind.PORTAL_SESSION_CREATED, "CreatePortalSession", ("portal session", "bob")),
        (EventKind.PORTAL_SESSION_OPENED, "RedeemPortalSession", ("portal session", "bob")),
        (EventKind.PORTAL_SESSION_ENDED, "EndPortalSession", ("portal session", "bob")),
        (EventKind.AUDIT_PRUNED, "stepup audit prune", ("audit events", "acme")),
    ],
)
def test_a_call_names_what_it_was_about(kind, operation, resource):
    event = ocsf(an_event(kind))
    assert event["api"]["operation"] == operation
    assert [(each["type"], each["uid"]) for each in event["resources"]] == [resource]


@pytest.mark.parametrize(
    ("client", "source"),
    [
        (Device("192.0.2.7", "Browser/1"), {"ip": "192.0.2.7"}),
        (Device("", "Browser/1"), {"svc_name": "spiffe://example/console"}),
    ],
)
def test_the_address_of_the_person_is_the_source_where_it_is_known(client, source):
    event = check(ocsf(an_event(EventKind.OTP_VERIFIED, client=client)))
    assert event["src_endpoint"] == source
    assert event["unmapped"]["client"] == {
        "address": client.address,
        "user_agent": client.user_agent,
    }


def test_the_factor_of_a_reset_code_is_not_that_of_an_app():
    [app] = ocsf(an_event(EventKind.OTP_VERIFIED))["auth_factors"]
    [reset] = ocsf(an_event(EventKind.RESET_CODE_REJECTED))["auth_factors"]
    assert (app["factor_type_id"], app["is_totp"]) == (7, True)
    assert reset == {"factor_type_id": 99, "factor_type": "Reset code"}


LINE = {
    "decision_id": "5c6f2c0e-9a0f-4a53-9c3e-0a4f6d8f1b77",
    "decided_at": "2026-03-01T12:00:00.123999+00:00",
    "caller": "response-actions",
    "request_id": "request-1",
    "identities": ["spiffe://acme/ns/prod/sa/response-actions"],
    "tenant_id": "acme",
    "user_id": "alice",
    "session": "b3f966ca7f2cdba9916be8129110bfd8",
    "operation": "response.run_osquery",
    "target": "host-7",
    "decision": "allowed",
    "reason": "elevated",
    "policy_etag": "8d6ad3f2c1b0",
}


@pytest.mark.parametrize(
    ("decision", "reason", "status"),
    [
        ("allowed", "elevated", "Success"),
        ("step_up_required", "not_elevated", "Failure"),
        ("enrollment_required", "not_enrolled", "Failure"),
    ],
)
def test_a_decision_is_a_call_with_its_authorization(decision, reason, status):
    line = {**LINE, "decision": decision, "reason": reason}
    record = check(ocsf_decision(line))
    assert (record["class_uid"], record["status"], record["status_detail"]) == (
        API_ACTIVITY,
        status,
        reason,
    )
    assert record["time"] == 1772366400123
    assert record["actor"]["user"] == {"uid": "alice"}
    assert record["actor"]["authorizations"] == [
        {"decision": decision, "policy": {"name": reason, "version": "8d6ad3f2c1b0"}}
    ]
    assert [each["uid"] for each in record["resources"]] == ["response.run_osquery", "host-7"]
    assert record["metadata"]["uid"] == line["decision_id"]
    assert record["unmapped"] == {"decision": line}


def test_a_decision_without_a_target_names_its_operation_alone():
    record = check(ocsf_decision({**LINE, "target": ""}))
    assert [each["type"] for each in record["resources"]] == ["operation"]


@pytest.mark.parametrize(
    "broken", [{"decided_at": "2026-03-01T12:00:00"}, {"decided_at": "soon"}, {"decision": "maybe"}]
)
def test_what_is_no_decision_is_refused(broken):
    with pytest.raises((KeyError, ValueError)):
        ocsf_decision({**LINE, **broken})
