"""What auditors read."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    enrol,
    events,
    kinds,
    person,
    protect,
    verify,
)

pytestmark = pytest.mark.e2e

ALL = [
    "POLICY_CHANGED",
    "ENROLLMENT_BEGUN",
    "ENROLLMENT_CONFIRMED",
    "ENROLLMENT_COMPLETED",
    "ACCOUNT_MFA_CHANGED",
    "OTP_REJECTED",
]


@pytest.fixture
def eventful(grpcurl, tenant):
    """A tenant with one event of each kind of `ALL`, in that order."""
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    verify(grpcurl, bob, enrol(grpcurl, bob).app.wrong_code())
    return tenant


def test_events_are_listed_in_the_order_in_which_they_happened(grpcurl, eventful):
    assert kinds(events(grpcurl, eventful)) == ALL


def test_the_events_of_a_tenant_are_one_chain(grpcurl, eventful):
    listed = events(grpcurl, eventful)
    assert [event["sequence"] for event in listed] == [str(number) for number in range(1, 7)]
    hashes = [event["hash"] for event in listed]
    assert [event["previous_hash"] for event in listed[1:]] == hashes[:-1]


def test_a_policy_change_has_before_and_after(grpcurl, eventful):
    details = events(grpcurl, eventful)[0]["details"]
    assert details["before"]["operations"] == {}
    assert details["after"]["operations"] == {OSQUERY: 900}


def test_filters_narrow_the_list(grpcurl, eventful):
    about_bob = events(grpcurl, eventful, filter={"user_id": "bob"})
    assert kinds(about_bob) == ALL[1:]
    of_a_kind = events(
        grpcurl, eventful, filter={"kinds": ["AUDIT_EVENT_KIND_ENROLLMENT_CONFIRMED"]}
    )
    assert kinds(of_a_kind) == ["ENROLLMENT_CONFIRMED"]


def test_pages_follow_one_another_without_gap_or_repetition(grpcurl, eventful):
    listed, request = [], {"tenant_id": eventful, "page_size": 2}
    while True:
        page = grpcurl.call("AuditService/ListAuditEvents", request)
        listed += page["events"]
        if "next_page_token" not in page:
            break
        request["page_token"] = page["next_page_token"]
    assert kinds(listed) == ALL


def test_an_altered_page_token_is_refused(grpcurl, eventful):
    request = {"tenant_id": eventful, "page_size": 2, "page_token": "bm90IG91cnM"}
    with pytest.raises(Refused) as refused:
        grpcurl.call("AuditService/ListAuditEvents", request)
    assert refused.value.reason == "INVALID_FIELD"


def test_the_export_streams_from_a_cursor_to_the_newest(grpcurl, eventful):
    stream = grpcurl.stream(
        "AuditService/ExportAuditEvents", {"tenant_id": eventful, "after_sequence": 2}
    )
    assert kinds([response["event"] for response in stream]) == ALL[2:]
