"""`account.sign_in`, and the users' own toggle in Account Settings."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import OSQUERY, SIGN_IN, administrator, enrol, person, protect, verdict

pytestmark = pytest.mark.e2e


def set_account_mfa(client, actor, enabled):
    request = {"actor": actor, "enabled": enabled}
    return client.call("EnrollmentService/SetAccountMfa", request).get("enabled", False)


def test_sign_in_needs_no_code_where_mfa_is_off(client, tenant):
    assert verdict(client, person(tenant, "bob"), SIGN_IN) == ("ALLOWED", "MFA_NOT_ENABLED")


def test_sign_in_asks_for_enrollment_where_the_policy_is_on(client, tenant):
    protect(client, administrator(tenant), OSQUERY)
    bob = person(tenant, "bob")
    assert verdict(client, bob, SIGN_IN) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


@pytest.mark.parametrize("account_type", ["ACCOUNT_TYPE_SAML", "ACCOUNT_TYPE_SAML_GROUP"])
def test_saml_accounts_give_no_code_at_sign_in(client, tenant, account_type):
    protect(client, administrator(tenant), OSQUERY)
    sue = person(tenant, "sue", account_type=account_type)
    assert verdict(client, sue, SIGN_IN) == ("ALLOWED", "SIGN_IN_NOT_SUPPORTED_FOR_SAML")


def test_saml_accounts_give_codes_for_operations(client, tenant):
    protect(client, administrator(tenant), OSQUERY)
    sue = person(tenant, "sue", account_type="ACCOUNT_TYPE_SAML")
    assert verdict(client, sue, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


def test_who_has_enrolled_gives_a_code_at_sign_in_though_the_policy_is_off(client, tenant):
    bob = person(tenant, "bob")
    enrol(client, bob)
    tomorrow = person(tenant, "bob", "tomorrow")
    assert verdict(client, tomorrow, SIGN_IN) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert verdict(client, bob, SIGN_IN) == ("ALLOWED", "ELEVATED")


def test_the_toggle_needs_an_authenticator_to_be_turned_on(client, tenant):
    with pytest.raises(Refused) as refused:
        set_account_mfa(client, person(tenant, "bob"), enabled=True)
    assert refused.value.reason == "ENROLLMENT_STATE"


def test_the_toggle_is_turned_off_in_an_elevated_session(client, tenant):
    bob = person(tenant, "bob")
    enrol(client, bob)
    assert not set_account_mfa(client, bob, enabled=False)
    assert set_account_mfa(client, bob, enabled=True)


def test_the_toggle_is_not_turned_off_without_a_code(client, tenant):
    bob = person(tenant, "bob")
    enrol(client, bob)
    with pytest.raises(Refused) as refused:
        set_account_mfa(client, person(tenant, "bob", "tomorrow"), enabled=False)
    assert refused.value.reason == "ELEVATION_REQUIRED"


def test_the_toggle_is_not_turned_off_while_the_policy_is_on(client, tenant):
    bob = person(tenant, "bob")
    enrol(client, bob)
    protect(client, administrator(tenant), OSQUERY)
    with pytest.raises(Refused) as refused:
        set_account_mfa(client, bob, enabled=False)
    assert refused.value.reason == "MFA_ENFORCED_BY_POLICY"
