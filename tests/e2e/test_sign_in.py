"""`account.sign_in`, and the users' own toggle in Account Settings."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import OSQUERY, SIGN_IN, administrator, enrol, person, protect, verdict

pytestmark = pytest.mark.e2e


def set_account_mfa(client, actor, enabled):
    request = {"actor": actor, "enabled": enabled}
    return client.call("EnrollmentService/SetAccountMfa", request).get("enabled", False)


def test_sign_in_asks_for_what_the_policy_and_the_account_ask_for(grpcurl, tenant):
    bob, sue = person(tenant, "bob"), person(tenant, "sue", account_type="ACCOUNT_TYPE_SAML")
    assert verdict(grpcurl, bob, SIGN_IN) == ("ALLOWED", "MFA_NOT_ENABLED")
    protect(grpcurl, administrator(tenant), OSQUERY)
    assert verdict(grpcurl, bob, SIGN_IN) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    assert verdict(grpcurl, sue, SIGN_IN) == ("ALLOWED", "SIGN_IN_NOT_SUPPORTED_FOR_SAML")
    assert verdict(grpcurl, sue, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


def test_the_toggle_is_turned_off_in_an_elevated_session_while_the_policy_is_off(grpcurl, tenant):
    bob, tomorrow = person(tenant, "bob"), person(tenant, "bob", "tomorrow")
    enrol(grpcurl, bob)
    assert verdict(grpcurl, tomorrow, SIGN_IN) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    with pytest.raises(Refused, match="FAILED_PRECONDITION") as refused:
        set_account_mfa(grpcurl, tomorrow, enabled=False)
    assert refused.value.reason == "ELEVATION_REQUIRED"
    assert not set_account_mfa(grpcurl, bob, enabled=False)
    assert set_account_mfa(grpcurl, bob, enabled=True)
    protect(grpcurl, administrator(tenant), OSQUERY)
    with pytest.raises(Refused) as refused:
        set_account_mfa(grpcurl, bob, enabled=False)
    assert refused.value.reason == "MFA_ENFORCED_BY_POLICY"
