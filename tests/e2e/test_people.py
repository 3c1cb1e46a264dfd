"""What administrators, operators and provisioning programs do about the people of a business."""

from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    enrol,
    events,
    person,
    protect,
    standing,
    update_policy,
    verdict,
    verify,
)
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.sql import execute

pytestmark = pytest.mark.e2e

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
SAM = {"name": "sam@platform.example", "reason": "ticket 4711"}


@pytest.fixture
def operator(tenant):
    """Sam, who operates the platform."""
    return {"tenant_id": tenant, "operator": SAM}


@pytest.fixture
def give_time(grpcurl, tenant):
    """Enables MFA, and gives people two weeks to enrol."""

    def give():
        enroll_by = datetime.now(UTC) + timedelta(days=14)
        update_policy(
            grpcurl,
            administrator(tenant),
            enabled=True,
            operations=[{"operation": OSQUERY}],
            enroll_by=f"{enroll_by:%Y-%m-%dT%H:%M:%SZ}",
        )

    return give


@pytest.fixture
def let_a_step_pass(shared_server, tenant):
    """Makes the code that an app shows usable again, as 30 seconds later."""

    def let_pass():
        execute(
            shared_server.site.database_url,
            "UPDATE authenticators SET last_step = last_step - 1 WHERE tenant_id = :tenant",
            tenant=tenant,
        )

    return let_pass


def states(person):
    return [state.removeprefix("PERSON_STATE_") for state in person["states"]]


def newest(client, tenant):
    """The newest event."""
    return events(client, tenant, newest_first=True, page_size=1)[0]


def test_an_operator_sees_who_has_time_to_enrol(grpcurl, tenant, operator, give_time):
    give_time()
    bob, carol = person(tenant, "bob"), person(tenant, "carol")
    for each in (bob, carol):
        assert verdict(grpcurl, each, OSQUERY) == ("ALLOWED", "ENROLLMENT_GRACE")
    enrol(grpcurl, carol)

    def listed():
        request = {"actor": operator, "state": "PERSON_STATE_IN_GRACE"}
        page = grpcurl.call("PeopleService/ListPeople", request)
        return page if "people" in page else None

    page = eventually(listed, "who was asked is on record")
    [found] = page["people"]
    assert (found["user_id"], states(found)) == ("bob", ["NOT_ENROLLED", "IN_GRACE"])
    assert (page["counts"]["in_grace"], page["counts"]["enrolled"]) == (1, 1)
    read = grpcurl.call("PolicyService/GetPolicy", {"tenant_id": tenant})
    assert read["people_in_grace"] == 1
    event = newest(grpcurl, tenant)
    assert event["kind"] == "AUDIT_EVENT_KIND_OPERATOR_READ"
    assert event["details"]["operator"] == SAM


def test_who_was_asked_is_on_record_after_the_server_stopped(server, tenant):
    client = GrpCurl(server)
    protect(client, administrator(tenant), OSQUERY)
    assert verdict(client, person(tenant, "bob"), OSQUERY)[1] == "NOT_ENROLLED"
    server.terminate()
    statement = "SELECT user_id FROM asked_people WHERE tenant_id = :tenant"
    assert execute(server.site.database_url, statement, tenant=tenant) == [("bob",)]


def test_an_administrator_ends_the_lock_of_a_person(grpcurl, tenant, let_a_step_pass):
    ada, bob = administrator(tenant), person(tenant, "bob")
    protect(grpcurl, ada, OSQUERY)
    enrol(grpcurl, ada)
    app = enrol(grpcurl, bob).app
    tuesday = person(tenant, "bob", "tuesday")
    for _ in range(5):
        verify(grpcurl, tuesday, app.wrong_code())
    assert verify(grpcurl, tuesday, app.code())["outcome"] == "OUTCOME_THROTTLED"
    get = {"actor": ada, "user_id": "bob"}
    locked = grpcurl.call("PeopleService/GetPerson", get)["person"]
    assert states(locked) == ["ENROLLED", "LOCKED"]

    unlock = {"actor": ada, "user_id": "bob", "reason": "called back"}
    assert grpcurl.call("PeopleService/UnlockUser", unlock) == {"unlocks_remaining": 2}
    let_a_step_pass()
    assert verify(grpcurl, tuesday, app.code())["outcome"] == "OUTCOME_VERIFIED"
    assert verdict(grpcurl, tuesday, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_a_later_person_with_the_id_of_one_who_left_starts_clean_and_without_time(
    grpcurl, tenant, give_time
):
    give_time()
    left, later = person(tenant, "bob"), person(tenant, "bob", "next-year")
    enrol(grpcurl, left)
    forget = {"actor": {"tenant_id": tenant}, "user_id": "bob", "deprovisioning": True}
    grpcurl.call("PeopleService/ForgetUser", forget)
    assert standing(grpcurl, later).keys().isdisjoint({"active", "pending", "account_mfa_enabled"})
    for session in (left, later):
        assert verdict(grpcurl, session, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    question = {"actor": administrator(tenant), "subject": later, "operation": OSQUERY}
    *_, in_grace, decides = grpcurl.call("StepUpService/ExplainStepUp", question)["rules"]
    assert in_grace["reason"] == "DECISION_REASON_ENROLLMENT_GRACE"
    assert "or was forgotten" in in_grace["explanation"]
    assert decides["matched"]

    enrol(grpcurl, later)
    assert verdict(grpcurl, later, OSQUERY) == ("ALLOWED", "ELEVATED")
    assert verdict(grpcurl, left, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")


def test_an_imported_authenticator_gets_a_reset_code_after_its_first_code(
    grpcurl, tenant, operator, let_a_step_pass
):
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    entry = {"user_id": "bob", "otpauth_uri": f"otpauth://totp/bob?secret={SECRET}"}
    request = {"actor": operator, "authenticators": [entry]}
    for dry_run in (True, False):
        results = grpcurl.call("PeopleService/ImportAuthenticators", request | {"dry_run": dry_run})
        assert results == {"results": [{"outcome": "IMPORT_OUTCOME_IMPORTED"}]}
    [imported] = events(
        grpcurl, tenant, filter={"kinds": ["AUDIT_EVENT_KIND_AUTHENTICATOR_IMPORTED"]}
    )
    assert imported["details"]["operator"] == SAM

    let_a_step_pass()
    assert verify(grpcurl, bob, AuthenticatorApp(SECRET).code())["outcome"] == "OUTCOME_VERIFIED"
    assert "has_reset_code" not in standing(grpcurl, bob)["active"]
    issued = grpcurl.call("EnrollmentService/IssueResetCode", {"actor": bob})
    assert standing(grpcurl, bob)["active"]["has_reset_code"]
    reset = {"actor": bob, "reset_code": issued["reset_code"]}
    done = grpcurl.call("EnrollmentService/ResetEnrollment", reset)
    assert done["outcome"] == "RESET_OUTCOME_ACCEPTED"
