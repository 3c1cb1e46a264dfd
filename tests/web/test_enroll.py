"""*Enable MFA*: its two variants, and what it says."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from stepup_tests.web import Refused, portal

from stepup.v1 import actor_pb2
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import policy_service_pb2 as policy_pb
from stepup.v1 import portal_service_pb2 as portal_pb

LATER = timedelta(days=5)


async def enable_mfa(standing=None, policy=None, **session):
    """The page, for a person without an authenticator unless `standing` says otherwise."""
    async with portal(portal_pb.PORTAL_PAGE_ENROLL) as (core, browser):
        for name, value in session.items():
            setattr(core.session, name, value)
        core.answer("EnrollmentService/GetEnrollment", standing or pb.GetEnrollmentResponse())
        if not isinstance(policy, Refused):
            policy = policy_pb.GetPolicyResponse(policy=policy or policy_pb.Policy(enabled=True))
        core.answer("PolicyService/GetPolicy", policy)
        return await browser.open()


async def test_a_master_administrator_may_enable_it_for_the_business_or_for_the_account():
    page = await enable_mfa(role=actor_pb2.ROLE_MASTER_ADMINISTRATOR)
    assert "Your business" in page.text
    assert "Multi-factor authentication" in page.text
    assert "Set up your authenticator" in page.text


@pytest.mark.parametrize("role", [actor_pb2.ROLE_OTHER, actor_pb2.ROLE_UNSPECIFIED])
async def test_everybody_else_sets_up_the_account(role):
    page = await enable_mfa(role=role)
    assert "Your business" not in page.text
    assert "Set up your authenticator" in page.text


@pytest.mark.parametrize("kind", [actor_pb2.ACCOUNT_TYPE_SAML, actor_pb2.ACCOUNT_TYPE_SAML_GROUP])
async def test_saml_people_hear_that_sign_in_asks_for_no_code(kind):
    page = await enable_mfa(account_type=kind)
    assert "you give no code here when you sign in" in page.text


def with_grace(until, *, enabled=True):
    policy = policy_pb.Policy(enabled=enabled)
    policy.enroll_by.FromDatetime(datetime.now(UTC) + until)
    return policy


@pytest.mark.parametrize(
    ("policy", "has_grace"),
    [
        (with_grace(LATER), True),
        (with_grace(-LATER), False),
        (with_grace(LATER, enabled=False), False),
        (policy_pb.Policy(enabled=True), False),
        (Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED"), False),
    ],
    ids=["later", "over", "disabled", "none", "not readable"],
)
async def test_grace_is_named_where_the_policy_has_one(policy, has_grace):
    page = await enable_mfa(policy=policy)
    assert page.status == 200
    assert ("time until" in page.text) is has_grace


async def test_an_enrolled_person_sees_that_and_the_way_back():
    standing = pb.GetEnrollmentResponse()
    standing.active.activated_at.FromDatetime(datetime.now(UTC))
    page = await enable_mfa(standing)
    assert "Your account has an authenticator" in page.text
    assert "Continue to the console" in page.text


async def test_an_open_wizard_continues():
    standing = pb.GetEnrollmentResponse()
    standing.pending.state = pb.ENROLLMENT_STATE_PENDING
    page = await enable_mfa(standing)
    assert "Continue the setup" in page.text
    assert "/wizard/scan" in page.html
