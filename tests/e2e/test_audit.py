"""What auditors read."""

import pytest
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, kinds, person, protect, verify

pytestmark = pytest.mark.e2e

ALL = [
    "POLICY_CHANGED",
    "ENROLLMENT_BEGUN",
    "ENROLLMENT_CONFIRMED",
    "ENROLLMENT_COMPLETED",
    "ACCOUNT_MFA_CHANGED",
    "OTP_REJECTED",
]


def test_an_auditor_reads_one_chain_by_pages_and_by_an_export(grpcurl, tenant):
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    verify(grpcurl, bob, enrol(grpcurl, bob).app.wrong_code())

    listed, request = [], {"tenant_id": tenant, "page_size": 4}
    while request.get("page_token") != "":
        page = grpcurl.call("AuditService/ListAuditEvents", request)
        listed += page["events"]
        request["page_token"] = page.get("next_page_token", "")
    assert kinds(listed) == ALL
    assert listed[0]["details"]["after"]["operations"] == {OSQUERY: 900}
    assert [event["sequence"] for event in listed] == [str(number) for number in range(1, 7)]
    hashes = [event["hash"] for event in listed]
    assert [event["previous_hash"] for event in listed[1:]] == hashes[:-1]

    request = {"tenant_id": tenant, "after_sequence": 2}
    exported = grpcurl.stream("AuditService/ExportAuditEvents", request)
    assert [response["event"] for response in exported] == listed[2:]
