"""The page of the person's own MFA: the toggle, the authenticator, reset codes, confirmations."""

from datetime import timedelta

import grpc
import pytest
from stepup_tests.web import Refused, portal
from stepup_tests.web_people import enrollment, verification

from stepup.v1 import actor_pb2, policy_service_pb2, step_up_service_pb2
from stepup.v1 import enrollment_service_pb2 as pb

GET_ENROLLMENT, SET_MFA, REMOVE, RESET, ISSUE = (
    f"EnrollmentService/{name}"
    for name in (
        "GetEnrollment",
        "SetAccountMfa",
        "RemoveEnrollment",
        "ResetEnrollment",
        "IssueResetCode",
    )
)
GET_POLICY = "PolicyService/GetPolicy"
VERIFY = "StepUpService/VerifyOtp"
REVOKE = "StepUpService/RevokeElevations"
RESET_CODE = "ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ23"


def refusal(reason, **details):
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, reason, **details)


ELEVATION_REQUIRED = refusal("ELEVATION_REQUIRED", next_step="VERIFY_OTP")
NO_AUTHENTICATOR = refusal("ENROLLMENT_STATE", fault="NO_AUTHENTICATOR")


def policy(*, enabled=False):
    return policy_service_pb2.GetPolicyResponse(policy=policy_service_pb2.Policy(enabled=enabled))


def account(core, standing=None, *, enforced=False):
    """Let the core know a person."""
    core.answer(GET_ENROLLMENT, standing or enrollment())
    core.answer(GET_POLICY, policy(enabled=enforced))


def elevating(core, method, answer, elevated=False):
    """Let a method of the core need an elevation, which a right code gives."""
    state = {"elevated": elevated}

    def verify(_):
        state["elevated"] = True
        return verification()

    def act(_):
        if not state["elevated"]:
            raise ELEVATION_REQUIRED
        return answer

    core.answer(VERIFY, verify)
    core.answer(method, act)


async def test_the_page_shows_the_authenticator_the_toggle_and_the_confirmation():
    async with portal() as (core, browser):
        account(core, enrollment(elevated_before=timedelta(minutes=1)))
        page = await browser.open()
        assert "Nov 1, 2026" in page.text
        assert "You have one" in page.text
        assert "You give a code from your authenticator app when you sign in." in page.text
        assert "data-countdown" in page.html
        for path in ("wizard", "reset-code", "remove", "reset", "mfa", "end"):
            assert f'href="{browser.visit}{path}"' in page.html


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (enrollment(active=False), "Set up an authenticator app"),
        (enrollment(has_reset_code=False), "Get a reset code."),
        (enrollment(suspended=True), "Use your reset code"),
        (enrollment(locked_for=timedelta(minutes=4)), "Too many codes were wrong"),
        (enrollment(), "the next selected action needs a code"),
        (
            pb.GetEnrollmentResponse(pending=pb.PendingEnrollment(enrollment_id="x")),
            "Continue the setup",
        ),
    ],
)
async def test_the_page_says_what_to_do(standing, words):
    async with portal() as (core, browser):
        account(core, standing)
        assert words in (await browser.open()).text


async def test_a_saml_account_gives_no_code_at_sign_in():
    async with portal() as (core, browser):
        core.session.account_type = actor_pb2.ACCOUNT_TYPE_SAML
        account(core)
        assert "Your identity provider signs you in" in (await browser.open()).text


async def test_what_the_business_enforces_has_no_switch():
    async with portal() as (core, browser):
        account(core, enforced=True)
        page = await browser.open()
        assert "Your business needs MFA, so you cannot turn it off." in page.text
        assert f'href="{browser.visit}mfa"' not in page.html
        core.answer(SET_MFA, refusal("MFA_ENFORCED_BY_POLICY"))
        page = await browser.follow(await browser.post("mfa", code="123456"))
        assert "you cannot turn it off" in page.text
        assert not core.calls_of(VERIFY)


async def test_the_page_does_without_the_policy():
    async with portal() as (core, browser):
        account(core)
        core.answer(GET_POLICY, Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED"))
        assert "Turn off" in (await browser.open()).text


async def test_mfa_is_turned_on_without_a_code():
    async with portal() as (core, browser):
        standing = enrollment()
        standing.account_mfa_enabled = False
        account(core, standing)
        core.answer(SET_MFA, pb.SetAccountMfaResponse(enabled=True))
        assert "Turn on" in (await browser.open()).text
        page = await browser.follow(await browser.post("mfa/on"))
        assert "MFA is on for your account." in page.text
        assert core.calls_of(SET_MFA)[0].enabled
        core.answer(SET_MFA, NO_AUTHENTICATOR)
        assert (await browser.post("mfa/on")).location == browser.visit


@pytest.mark.parametrize(
    ("path", "method", "answer", "words"),
    [
        ("mfa", SET_MFA, pb.SetAccountMfaResponse(), "MFA is off"),
        ("remove", REMOVE, pb.RemoveEnrollmentResponse(), "Your authenticator is removed"),
    ],
)
async def test_an_action_takes_the_code_of_its_own_form(path, method, answer, words):
    async with portal() as (core, browser):
        account(core)
        elevating(core, method, answer)
        await browser.open()
        page = await browser.get(path)
        assert "What will happen" in page.text
        assert 'name="code"' in page.html
        page = await browser.follow(await browser.post(path, code="123 456"))
        assert words in page.text
        assert [request.code for request in core.calls_of(VERIFY)] == ["123456"]


async def test_an_elevated_session_needs_no_code():
    async with portal() as (core, browser):
        account(core, enrollment(elevated_before=timedelta(minutes=3)))
        elevating(core, REMOVE, pb.RemoveEnrollmentResponse(), elevated=True)
        await browser.open()
        assert 'name="code"' not in (await browser.get("remove")).html
        assert (await browser.post("remove")).status == 303
        assert not core.calls_of(VERIFY)


@pytest.mark.parametrize("path", ["mfa", "remove", "reset-code"])
async def test_a_refused_code_changes_nothing(path):
    async with portal() as (core, browser):
        account(core)
        for method in (SET_MFA, REMOVE, ISSUE):
            core.answer(method, ELEVATION_REQUIRED)
        core.answer(VERIFY, verification("REJECTED", attempts=3))
        await browser.open()
        page = await browser.post(path, code="123456")
        assert page.status == 422
        assert "3 more attempts" in page.text
        assert 'name="code"' in page.html
        page = await browser.post(path)  # the elevation of a form without the field has ended
        assert 'name="code"' in page.html
        assert len(core.calls_of(VERIFY)) == 1


@pytest.mark.parametrize("path", ["mfa", "remove", "reset-code"])
@pytest.mark.parametrize(
    "answer", [NO_AUTHENTICATOR, refusal("ELEVATION_REQUIRED", next_step="ENROLL")]
)
async def test_an_authenticator_that_ended_elsewhere_leads_to_the_present_state(path, answer):
    async with portal() as (core, browser):
        account(core, enrollment(active=False))
        for method in (SET_MFA, REMOVE, ISSUE):
            core.answer(method, answer)
        await browser.open()
        assert (await browser.get(path)).location == browser.visit
        assert (await browser.post(path, code="123456")).location == browser.visit


async def test_a_lock_shows_on_the_page_of_an_action():
    async with portal() as (core, browser):
        account(core, enrollment(locked_for=timedelta(minutes=4)))
        await browser.open()
        page = await browser.get("remove")
        assert page.status == 200
        assert 'name="code"' not in page.html


async def test_a_new_reset_code_is_shown_once_and_confirmed():
    async with portal() as (core, browser):
        account(core)
        elevating(core, ISSUE, pb.IssueResetCodeResponse(reset_code=RESET_CODE))
        await browser.open()
        page = await browser.post("reset-code", code="123456")
        assert page.status == 200
        assert f'data-copy="{RESET_CODE}"' in page.html
        assert "data-download" in page.html
        assert page.response.headers["cache-control"] == "no-store"
        page = await browser.follow(await browser.post("reset-code/stored", stored="yes"))
        assert "Your new reset code is in force." in page.text
        page = await browser.follow(await browser.post("reset-code/stored"))
        assert "You did not confirm" in page.text
        assert RESET_CODE not in page.html


async def test_the_reset_code_removes_the_authenticator_and_leads_into_the_wizard():
    async with portal() as (core, browser):
        account(core)
        core.answer(RESET, pb.ResetEnrollmentResponse(outcome=pb.RESET_OUTCOME_ACCEPTED))
        await browser.open()
        assert 'name="reset_code"' in (await browser.get("reset")).html
        page = await browser.post("reset", reset_code=" abcd efgh ")
        assert core.calls_of(RESET)[0].reset_code == " abcd efgh "
        core.answer(GET_ENROLLMENT, enrollment(active=False))
        page = await browser.follow(page)
        assert "Your authenticator is removed" in page.text
        assert "Install an authenticator app" in page.text
        core.answer(RESET, NO_AUTHENTICATOR)  # the same form again
        assert (await browser.post("reset", reset_code="abcd")).location == browser.visit


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pb.ResetEnrollmentResponse(outcome=pb.RESET_OUTCOME_MISTYPED), "wrong or missing"),
        (
            Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "reset_code"),
            "wrong or missing",
        ),
        (pb.ResetEnrollmentResponse(outcome=pb.RESET_OUTCOME_REJECTED), "is not right"),
        (
            pb.ResetEnrollmentResponse(
                outcome=pb.RESET_OUTCOME_THROTTLED, retry_after={"seconds": 900}
            ),
            "in 15 minutes",
        ),
        (pb.ResetEnrollmentResponse(), "is not right"),
    ],
)
async def test_a_refused_reset_code_is_explained_and_not_repeated(answer, words):
    async with portal() as (core, browser):
        account(core)
        core.answer(RESET, answer)
        await browser.open()
        page = await browser.post("reset", reset_code=RESET_CODE)
        assert page.status == 422
        assert words in page.text
        assert RESET_CODE not in page.html


async def test_without_a_reset_code_there_is_nothing_to_type():
    async with portal() as (core, browser):
        account(core, enrollment(has_reset_code=False))
        page = await browser.open()
        assert f'href="{browser.visit}reset"' not in page.html
        assert (await browser.get("reset")).location == browser.visit


async def test_to_end_all_confirmations_ends_the_visit():
    async with portal() as (core, browser):
        account(core)
        core.answer(REVOKE, step_up_service_pb2.RevokeElevationsResponse())
        await browser.open()
        page = await browser.get("end")
        assert "This page ends too" in page.text
        assert 'name="code"' not in page.html
        page = await browser.post("end")
        assert page.location == core.session.return_url
        (request,) = core.calls_of(REVOKE)
        assert request.scope == step_up_service_pb2.REVOCATION_SCOPE_USER
        assert (await browser.get()).status == 401


async def test_what_the_core_refuses_for_another_cause_is_not_swallowed():
    async with portal() as (core, browser):
        account(core)
        for method in (SET_MFA, REMOVE, RESET, REVOKE):
            core.answer(method, Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED"))
        await browser.open()
        for path in ("mfa", "mfa/on", "remove", "reset", "end"):
            page = await browser.post(path, code="123456", reset_code=RESET_CODE)
            assert page.status == 403
            assert not core.calls_of(VERIFY)
