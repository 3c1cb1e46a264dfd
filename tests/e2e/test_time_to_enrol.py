"""The time to enrol (`enroll_by`), from the policy to the person without an authenticator."""

from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    check,
    enrol,
    person,
    update_policy,
    verdict,
)

pytestmark = pytest.mark.e2e


def in_days(number):
    return f"{datetime.now(UTC) + timedelta(days=number):%Y-%m-%dT%H:%M:%SZ}"


def test_a_person_has_time_until_the_first_authenticator_and_never_again(grpcurl, tenant):
    ada, bob = administrator(tenant), person(tenant, "bob")
    enroll_by = in_days(14)
    osquery = [{"operation": OSQUERY}]
    update_policy(grpcurl, ada, enabled=True, operations=osquery, enroll_by=enroll_by)

    answer = check(grpcurl, bob, OSQUERY)
    assert answer["reason"] == "DECISION_REASON_ENROLLMENT_GRACE"
    assert answer["enroll_by"] == enroll_by
    assert "receipt" not in answer

    question = {"actor": bob, "subject": bob, "operation": OSQUERY}
    explanation = grpcurl.call("StepUpService/ExplainStepUp", question)
    assert explanation["reason"] == answer["reason"]
    assert enroll_by in explanation["rules"][-1]["explanation"]

    enrol(grpcurl, bob)
    assert verdict(grpcurl, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    grpcurl.call("EnrollmentService/RemoveEnrollment", {"actor": bob})
    assert verdict(grpcurl, bob, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")

    for later, reason in ((in_days(15), "ELEVATION_REQUIRED"), (in_days(31), "INVALID_FIELD")):
        with pytest.raises(Refused) as refused:
            update_policy(grpcurl, ada, enroll_by=later)
        assert refused.value.reason == reason
