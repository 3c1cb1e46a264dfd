"""Lost and replaced authenticators, wrong codes (S2, S4, S5, S7, S8, S10)."""

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    begin,
    complete,
    confirm,
    enrol,
    events,
    person,
    protect,
    standing,
    verdict,
    verify,
)
from stepup_tests.e2e.sql import execute

pytestmark = pytest.mark.e2e


def reset(grpcurl, actor, reset_code):
    request = {"actor": actor, "reset_code": reset_code}
    return grpcurl.call("EnrollmentService/ResetEnrollment", request)["outcome"]


def admin_reset(grpcurl, admin, user, reason="lost phone"):
    request = {"actor": admin, "user_id": user, "reason": reason}
    return grpcurl.call("EnrollmentService/AdminResetEnrollment", request)


def test_the_reset_code_removes_the_authenticator_and_its_elevation(grpcurl, tenant):
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    enrolled = enrol(grpcurl, bob)
    assert reset(grpcurl, person(tenant, "bob", "new-phone"), enrolled.reset_code.lower()) == (
        "RESET_OUTCOME_ACCEPTED"
    )
    assert verdict(grpcurl, bob, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


def test_a_reset_code_works_once(grpcurl, tenant):
    bob = person(tenant, "bob")
    old = enrol(grpcurl, bob)
    reset(grpcurl, bob, old.reset_code)
    enrol(grpcurl, bob)
    assert reset(grpcurl, bob, old.reset_code) == "RESET_OUTCOME_REJECTED"


def test_the_reset_code_permits_a_replacement(grpcurl, tenant):
    bob, elsewhere = person(tenant, "bob"), person(tenant, "bob", "tuesday")
    old = enrol(grpcurl, bob)
    enrol(grpcurl, elsewhere, reset_code=old.reset_code)
    # The old app's code would be the wrong one in any step.
    assert verify(grpcurl, elsewhere, old.app.code())["outcome"] == "OUTCOME_REJECTED"


def test_a_replacement_without_a_code_is_refused(grpcurl, tenant):
    enrol(grpcurl, person(tenant, "bob"))
    with pytest.raises(Refused) as refused:
        begin(grpcurl, person(tenant, "bob", "tuesday"))
    assert refused.value.reason == "ELEVATION_REQUIRED"


def test_an_open_replacement_leaves_the_old_authenticator_in_force(grpcurl, tenant):
    bob = person(tenant, "bob")
    enrol(grpcurl, bob)
    before = standing(grpcurl, bob)["active"]
    confirm(grpcurl, bob, AuthenticatorApp(begin(grpcurl, bob)["secret"]).code())
    assert standing(grpcurl, bob)["active"] == before


def test_a_completed_replacement_ends_the_elevations_of_the_old_one(grpcurl, tenant):
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob, elsewhere = person(tenant, "bob"), person(tenant, "bob", "tuesday")
    old = enrol(grpcurl, bob)
    enrol(grpcurl, elsewhere, reset_code=old.reset_code)
    assert verdict(grpcurl, bob, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert verdict(grpcurl, elsewhere, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_an_elevated_administrator_removes_another_users_authenticator(grpcurl, tenant):
    ada, bob = administrator(tenant), person(tenant, "bob")
    enrol(grpcurl, ada)
    enrol(grpcurl, bob)
    admin_reset(grpcurl, ada, "bob")
    assert "active" not in standing(grpcurl, bob)


def test_an_administrator_without_a_code_removes_nothing(grpcurl, tenant):
    enrol(grpcurl, person(tenant, "bob"))
    with pytest.raises(Refused) as refused:
        admin_reset(grpcurl, administrator(tenant), "bob")
    assert refused.value.reason == "ELEVATION_REQUIRED"


def test_nobody_else_removes_another_users_authenticator(grpcurl, tenant):
    bob, eve = person(tenant, "bob"), person(tenant, "eve")
    enrol(grpcurl, bob)
    enrol(grpcurl, eve)
    with pytest.raises(Refused) as refused:
        admin_reset(grpcurl, eve, "bob")
    assert refused.value.reason == "ROLE_REQUIRED"


def test_a_person_removes_the_own_authenticator_in_an_elevated_session(grpcurl, tenant):
    bob = person(tenant, "bob")
    enrol(grpcurl, bob)
    grpcurl.call("EnrollmentService/RemoveEnrollment", {"actor": bob})
    assert "active" not in standing(grpcurl, bob)


def test_the_code_that_confirmed_is_used_up(grpcurl, tenant):
    bob = person(tenant, "bob")
    enrolled = enrol(grpcurl, bob, lasting=8)
    assert verify(grpcurl, bob, enrolled.code)["outcome"] == "OUTCOME_REJECTED"
    [rejected] = events(grpcurl, tenant, filter={"kinds": ["AUDIT_EVENT_KIND_OTP_REJECTED"]})
    assert rejected["details"]["cause"] == "repeated"


def test_five_wrong_codes_lock_and_the_lock_ends_no_elevation(grpcurl, tenant):
    protect(grpcurl, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    app = enrol(grpcurl, bob).app
    answers = [verify(grpcurl, bob, app.wrong_code()) for _ in range(6)]
    assert [answer.get("attempts_remaining", 0) for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert answers[-1]["outcome"] == "OUTCOME_THROTTLED"
    assert verdict(grpcurl, bob, OSQUERY) == ("ALLOWED", "ELEVATED")


def test_s4_a_spent_session_has_to_sign_in_anew(grpcurl, shared_server, tenant):
    bob = person(tenant, "bob")
    app = enrol(grpcurl, bob).app
    for _ in range(2):  # the second time as after the end of the lock
        execute(
            shared_server.site.database_url,
            "UPDATE authenticators SET locked_until = NULL WHERE tenant_id = :tenant",
            tenant=tenant,
        )
        for _ in range(5):
            verify(grpcurl, bob, app.wrong_code())
    assert verify(grpcurl, bob, app.wrong_code()) == {"outcome": "OUTCOME_SESSION_SPENT"}
    anew = person(tenant, "bob", "tuesday")
    assert verify(grpcurl, anew, app.wrong_code())["outcome"] == "OUTCOME_THROTTLED"
    [refused] = events(grpcurl, tenant, filter={"kinds": ["AUDIT_EVENT_KIND_ATTEMPTS_REFUSED"]})
    assert refused["details"]["cause"] == "session_spent"


def test_a_lock_does_not_block_the_reset_code(grpcurl, tenant):
    bob = person(tenant, "bob")
    enrolled = enrol(grpcurl, bob)
    for _ in range(5):
        verify(grpcurl, bob, enrolled.app.wrong_code())
    assert reset(grpcurl, bob, enrolled.reset_code) == "RESET_OUTCOME_ACCEPTED"


def test_five_wrong_first_codes_end_the_wizard(grpcurl, tenant):
    bob = person(tenant, "bob")
    app = AuthenticatorApp(begin(grpcurl, bob)["secret"])
    for _ in range(5):
        confirm(grpcurl, bob, app.wrong_code())
    with pytest.raises(Refused) as refused:
        confirm(grpcurl, bob, app.code())
    assert refused.value.reason == "ENROLLMENT_STATE"


def test_without_the_word_that_the_reset_code_is_stored_nothing_completes(grpcurl, tenant):
    bob = person(tenant, "bob")
    confirm(grpcurl, bob, AuthenticatorApp(begin(grpcurl, bob)["secret"]).code())
    with pytest.raises(Refused) as refused:
        grpcurl.call("EnrollmentService/CompleteEnrollment", {"actor": bob})
    assert refused.value.detail("BadRequest")["field_violations"][0]["field"] == "reset_code_stored"
    assert complete(grpcurl, bob)["enrollment"]


def test_a_resent_request_is_no_second_attempt(grpcurl, tenant):
    bob = person(tenant, "bob")
    app = enrol(grpcurl, bob).app
    attempt = {
        "actor": bob,
        "code": app.wrong_code(),
        "request_id": "0b7e0f5c-55a8-4f0f-8f0e-0d5d6a1f2c3b",
    }
    first = grpcurl.call("StepUpService/VerifyOtp", attempt)
    assert grpcurl.call("StepUpService/VerifyOtp", attempt) == first
