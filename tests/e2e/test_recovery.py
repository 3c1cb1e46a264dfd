"""Lost and replaced authenticators, wrong codes (S2, S4, S5, S7, S8, S10)."""

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    begin,
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


@pytest.fixture
def bob(tenant):
    return person(tenant, "bob")


@pytest.fixture
def elsewhere(tenant):
    """Bob's session on another device."""
    return person(tenant, "bob", "tuesday")


def reset(grpcurl, actor, reset_code):
    request = {"actor": actor, "reset_code": reset_code}
    return grpcurl.call("EnrollmentService/ResetEnrollment", request)["outcome"]


def admin_reset(grpcurl, admin, user):
    request = {"actor": admin, "user_id": user, "reason": "lost phone"}
    return grpcurl.call("EnrollmentService/AdminResetEnrollment", request)


def test_a_reset_code_removes_the_authenticator_with_its_elevation_and_works_once(
    grpcurl, bob, elsewhere
):
    protect(grpcurl, administrator(bob["tenant_id"]), OSQUERY)
    old = enrol(grpcurl, bob)
    assert reset(grpcurl, elsewhere, old.reset_code.lower()) == "RESET_OUTCOME_ACCEPTED"
    assert verdict(grpcurl, bob, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    enrol(grpcurl, bob)
    assert reset(grpcurl, bob, old.reset_code) == "RESET_OUTCOME_REJECTED"


def test_a_reset_code_permits_a_replacement_which_ends_the_elevations_of_the_old_one(
    grpcurl, bob, elsewhere
):
    protect(grpcurl, administrator(bob["tenant_id"]), OSQUERY)
    old = enrol(grpcurl, bob)
    before = standing(grpcurl, bob)["active"]
    with pytest.raises(Refused) as refused:
        begin(grpcurl, elsewhere)
    assert refused.value.reason == "ELEVATION_REQUIRED"
    enrol(grpcurl, elsewhere, reset_code=old.reset_code)
    assert standing(grpcurl, bob)["active"] != before
    assert verdict(grpcurl, bob, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert verdict(grpcurl, elsewhere, OSQUERY) == ("ALLOWED", "ELEVATED")
    # The old app's code would be the wrong one in any step.
    assert verify(grpcurl, elsewhere, old.app.code())["outcome"] == "OUTCOME_REJECTED"


def test_an_elevated_administrator_removes_another_users_authenticator(grpcurl, tenant, bob):
    ada, eve = administrator(tenant), person(tenant, "eve")
    enrol(grpcurl, bob)
    for nobody, reason in ((ada, "ELEVATION_REQUIRED"), (eve, "ROLE_REQUIRED")):
        with pytest.raises(Refused) as refused:
            admin_reset(grpcurl, nobody, "bob")
        assert refused.value.reason == reason
    enrol(grpcurl, ada)
    admin_reset(grpcurl, ada, "bob")
    assert "active" not in standing(grpcurl, bob)
    grpcurl.call("EnrollmentService/RemoveEnrollment", {"actor": ada})
    assert "active" not in standing(grpcurl, ada)


def test_five_wrong_codes_lock_but_end_no_elevation_and_do_not_block_the_reset_code(
    grpcurl, tenant, bob
):
    protect(grpcurl, administrator(tenant), OSQUERY)
    enrolled = enrol(grpcurl, bob)
    answers = [verify(grpcurl, bob, enrolled.app.wrong_code()) for _ in range(6)]
    assert [answer.get("attempts_remaining", 0) for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert answers[-1]["outcome"] == "OUTCOME_THROTTLED"
    assert verdict(grpcurl, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    assert reset(grpcurl, bob, enrolled.reset_code) == "RESET_OUTCOME_ACCEPTED"


def test_s4_a_spent_session_has_to_sign_in_anew(grpcurl, shared_server, tenant, bob, elsewhere):
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
    assert verify(grpcurl, elsewhere, app.wrong_code())["outcome"] == "OUTCOME_THROTTLED"
    [refused] = events(grpcurl, tenant, filter={"kinds": ["AUDIT_EVENT_KIND_ATTEMPTS_REFUSED"]})
    assert refused["details"]["cause"] == "session_spent"


def test_five_wrong_first_codes_end_the_wizard(grpcurl, bob):
    app = AuthenticatorApp(begin(grpcurl, bob)["secret"])
    for _ in range(5):
        confirm(grpcurl, bob, app.wrong_code())
    with pytest.raises(Refused) as refused:
        confirm(grpcurl, bob, app.code())
    assert refused.value.reason == "ENROLLMENT_STATE"


def test_a_resent_request_is_no_second_attempt(grpcurl, bob):
    attempt = {
        "actor": bob,
        "code": enrol(grpcurl, bob).app.wrong_code(),
        "request_id": "0b7e0f5c-55a8-4f0f-8f0e-0d5d6a1f2c3b",
    }
    first = grpcurl.call("StepUpService/VerifyOtp", attempt)
    assert grpcurl.call("StepUpService/VerifyOtp", attempt) == first
