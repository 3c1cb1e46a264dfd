"""The policy panel, on a fake core that keeps a policy."""

import html
import re
from contextlib import asynccontextmanager

import grpc
import pytest
from stepup_tests.web import Refused, portal

from stepup.v1 import enrollment_service_pb2 as enrollment_pb
from stepup.v1 import people_service_pb2 as people_pb
from stepup.v1 import policy_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.v1 import step_up_service_pb2 as step_up_pb

OSQUERY, SHELL, CUSTOM = "response.run_osquery", "response.start_remote_shell", "vault.open"
CATALOGUE = pb.ListOperationsResponse(
    categories=[
        pb.OperationCategory(
            id="response",
            title="Response actions",
            operations=[
                pb.Operation(id=OSQUERY, title="Run osquery task"),
                pb.Operation(id=SHELL, title="Start Remote Shell Session task"),
            ],
        ),
        pb.OperationCategory(
            id="vault",
            title="Vault <b>",
            operations=[pb.Operation(id=CUSTOM, title="Open <script>alert(1)</script>")],
        ),
    ]
)
UPDATE = "PolicyService/UpdatePolicy"
ELEVATION = Refused(
    grpc.StatusCode.FAILED_PRECONDITION, "ELEVATION_REQUIRED", next_step="VERIFY_OTP"
)


class Business:
    """What the fake core keeps."""

    def __init__(self, core, policy):
        self.policy, self.elevated, self.enrolled = policy, False, True
        core.answer("PolicyService/GetPolicy", self.get)
        core.answer("PolicyService/ListOperations", CATALOGUE)
        core.answer(UPDATE, self.update)
        core.answer(
            "PeopleService/ListPeople",
            people_pb.ListPeopleResponse(counts=people_pb.PeopleCounts(enrolled=2, not_enrolled=1)),
        )
        core.answer("EnrollmentService/GetEnrollment", self.standing)
        core.answer("StepUpService/VerifyOtp", self.verify)

    def get(self, _):
        return pb.GetPolicyResponse(policy=self.policy, people_in_grace=3)

    def update(self, call):
        sent = call.request
        assert not sent.HasField("actor")
        if sent.policy.etag != self.policy.etag:
            raise Refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        for path in sent.update_mask.paths:
            self.policy.ClearField(path)
            self.policy.MergeFrom(pb.Policy(**{path: getattr(sent.policy, path)}))
        self.policy.etag += "+"
        self.policy.update_time.GetCurrentTime()
        return pb.UpdatePolicyResponse(policy=self.policy)

    def standing(self, _):
        answer = enrollment_pb.GetEnrollmentResponse()
        if self.enrolled:
            answer.active.SetInParent()
        if self.elevated:
            answer.elevation.SetInParent()
        return answer

    def verify(self, call):
        if call.request.code != "123456":
            return step_up_pb.VerifyOtpResponse(
                outcome=step_up_pb.OUTCOME_REJECTED, attempts_remaining=4
            )
        self.elevated = True
        answer = step_up_pb.VerifyOtpResponse(outcome=step_up_pb.OUTCOME_VERIFIED)
        answer.elevation.verified_at.GetCurrentTime()
        answer.elevation.expires_at.GetCurrentTime()
        return answer


@asynccontextmanager
async def panel(**values):
    """A business that has MFA, and needs a code for osquery."""
    policy = pb.Policy(
        enabled=True, etag="e1", operations=[pb.SelectedOperation(operation=OSQUERY)]
    )
    policy.update_time.GetCurrentTime()
    policy.MergeFrom(pb.Policy(**values))
    async with portal(portal_pb.PORTAL_PAGE_POLICY) as (core, browser):
        yield core, browser, Business(core, policy)


def fields(page, **changes):
    """All fields of the form as a browser without JavaScript sends them, with changes."""
    found = {
        "etag": re.search(r'name="etag" value="([^"]*)"', page.html)[1],
        "accepted": re.search(r'name="accepted" value="([^"]*)"', page.html)[1],
        "operation": [
            value
            for value, rest in re.findall(r'name="operation" value="([^"]*)"([^>]*)>', page.html)
            if "checked" in rest
        ],
    }
    if re.search(r'name="enabled"[^>]*checked', page.html):
        found["enabled"] = "yes"
    for name, options in re.findall(
        r'<select[^>]*name="([^"]*)"[^>]*>(.*?)</select>', page.html, re.DOTALL
    ):
        found[name] = re.search(r'value="([^"]*)" selected', options)[1]
    for name in ("issuer", "enroll_by"):
        value = re.search(rf'<input[^>]*name="{name}" value="([^"]*)"', page.html)[1]
        found[name] = html.unescape(value)
    found |= changes
    return {name: value for name, value in found.items() if value is not None}


async def opened(browser):
    await browser.open()
    return await browser.get("panel")


async def test_while_mfa_is_off_it_begins_with_enable_mfa():
    async with panel(enabled=False) as (_, browser, business):
        business.policy.enabled, business.enrolled = False, False
        page = await browser.open()
        assert "Enable MFA for your business" in page.text
        assert f'href="{browser.visit}panel"' in page.html
        assert f'href="{browser.visit}wizard"' in page.html


async def test_while_mfa_is_on_it_begins_with_the_panel():
    async with panel() as (_, browser, _):
        page = await browser.follow(await browser.open())
        assert "Run osquery task" in page.text
        assert "Local accounts that have an authenticator still give a code" in page.text
        assert "3 people have no authenticator yet" in page.text
        for exemption in ("SAML accounts", "Managed Services", "playbook", "timed out"):
            assert exemption in page.text


async def test_before_enabling_it_says_how_many_have_no_authenticator():
    async with panel() as (_, browser, business):
        business.policy.enabled = False
        page = await opened(browser)
        assert "1 person was asked for a code and has no authenticator." in page.text


@pytest.mark.parametrize("enabled", [False, True])
async def test_it_says_to_an_administrator_what_having_no_authenticator_means(enabled):
    async with panel() as (_, browser, business):
        business.policy.enabled, business.enrolled = enabled, False
        page = await opened(browser)
        assert ("before you turn MFA on" in page.text) is not enabled
        assert ("Without a code you cannot turn MFA off again." in page.text) is enabled


async def test_it_does_without_what_the_callers_may_not_read():
    refused = Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED")
    async with panel() as (core, browser, _):
        core.answer("PeopleService/ListPeople", refused)
        core.answer("EnrollmentService/GetEnrollment", refused)
        page = await opened(browser)
        assert page.status == 200
        assert "was asked for a code" not in page.text


async def test_a_stronger_policy_is_saved_without_a_code():
    async with panel() as (core, browser, _):
        page = await opened(browser)
        changed = fields(page, operation=[OSQUERY, CUSTOM], **{f"age.{CUSTOM}": "0"})
        page = await browser.follow(await browser.post("panel", **changed))
        assert "Saved." in page.text
        (sent,) = core.calls_of(UPDATE)
        assert sent.update_mask.paths == ["operations"]
        assert list(sent.policy.operations) == [
            pb.SelectedOperation(operation=OSQUERY),
            pb.SelectedOperation(operation=CUSTOM, every_time=True),
        ]
        assert not core.calls_of("StepUpService/VerifyOtp")


async def test_a_weaker_policy_is_first_said_and_then_saved_with_a_code():
    async with panel() as (core, browser, business):
        page = await opened(browser)
        page = await browser.post("panel", **fields(page, enabled=None, operation=[]))
        assert page.status == 422
        assert "MFA is turned off for your business." in page.text
        assert "Removed: Run osquery task needs no code." in page.text
        assert not core.calls_of(UPDATE)
        again = await browser.post("panel", **fields(page, code="12 34 57"))
        assert "4 more attempts" in again.text
        assert not core.calls_of(UPDATE)
        done = await browser.post("panel", **fields(again, code="12 34 56"))
        assert done.status == 303
        assert not business.policy.enabled
        assert not business.policy.operations


async def test_an_elevated_session_is_told_what_is_weaker_and_asked_for_no_code():
    async with panel() as (core, browser, business):
        business.elevated = True
        page = await opened(browser)
        page = await browser.post("panel", **fields(page, enabled=None))
        assert 'name="code"' not in page.html
        assert not core.calls_of(UPDATE)
        await browser.follow(await browser.post("panel", **fields(page)))
        assert core.calls_of(UPDATE)[0].update_mask.paths == ["enabled"]


async def test_who_accepts_one_weakening_accepts_no_other():
    async with panel() as (core, browser, business):
        business.elevated = True
        page = await opened(browser)
        page = await browser.post("panel", **fields(page, enabled=None))
        page = await browser.post("panel", **fields(page, operation=[]))
        assert page.status == 422
        assert "Run osquery task needs no code" in page.text
        assert not core.calls_of(UPDATE)


async def test_an_administrator_without_an_authenticator_is_led_to_the_wizard():
    async with panel() as (_, browser, business):
        business.enrolled = False
        page = await opened(browser)
        page = await browser.post("panel", **fields(page, enabled=None))
        assert 'name="code"' not in page.html
        assert "Set up your authenticator first" in page.text
        assert f'href="{browser.visit}wizard"' in page.html


async def test_a_code_is_asked_for_when_the_core_wants_it():
    async with panel() as (core, browser, _):
        page = await opened(browser)
        core.answer(UPDATE, ELEVATION)
        page = await browser.post("panel", **fields(page, operation=[OSQUERY, SHELL]))
        assert page.status == 422
        assert 'name="code"' in page.html
        page = await browser.post("panel", **fields(page, code="123456"))
        assert core.calls_of("StepUpService/VerifyOtp")[0].code == "123456"


async def test_what_somebody_else_saved_meanwhile_is_shown_and_overwritten_only_deliberately():
    async with panel() as (core, browser, business):
        page = await opened(browser)
        mine = fields(page, operation=[OSQUERY, SHELL], issuer="Mine")
        business.policy.etag, business.policy.issuer = "e2", "Theirs"
        page = await browser.post("panel", **mine)
        assert page.status == 422
        assert "Somebody else has saved meanwhile" in page.text
        assert "Theirs Mine" in page.text
        assert not core.calls_of(UPDATE)
        await browser.follow(await browser.post("panel", **fields(page)))
        assert business.policy.issuer == "Mine"
        assert len(business.policy.operations) == 2


async def test_a_save_of_somebody_else_at_the_last_moment_is_shown():
    async with panel() as (core, browser, business):
        page = await opened(browser)

        def lose(_):
            business.policy.etag, business.policy.issuer = "e2", "Theirs"
            raise Refused(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")

        core.answer(UPDATE, lose)
        page = await browser.post("panel", **fields(page, operation=[OSQUERY, SHELL]))
        assert "Somebody else has saved meanwhile" in page.text
        assert fields(page)["etag"] == "e2"
        assert fields(page)["operation"] == [OSQUERY, SHELL]


async def test_a_form_that_is_sent_twice_is_saved_once():
    async with panel() as (core, browser, _):
        page = await opened(browser)
        changed = fields(page, operation=[OSQUERY, SHELL])
        first = await browser.post("panel", **changed)
        second = await browser.post("panel", **changed)
        assert first.location == second.location
        assert len(core.calls_of(UPDATE)) == 1


async def test_a_business_without_a_policy_gets_one_even_if_nothing_differs():
    async with panel() as (core, browser, business):
        business.policy = pb.Policy(etag="none")
        page = await opened(browser)
        assert (await browser.post("panel", **fields(page))).status == 303
        assert core.calls_of(UPDATE)[0].update_mask.paths == ["enabled"]


async def test_a_wrong_value_is_named_at_its_field_and_the_entries_stay():
    async with panel() as (core, browser, _):
        page = await opened(browser)
        wrong = fields(page, issuer="a:b", enroll_by="2001-01-01T00:00", **{f"age.{OSQUERY}": "29"})
        page = await browser.post("panel", **wrong)
        assert page.status == 422
        for field in ("issuer", "enroll_by", f"age.{OSQUERY}"):
            assert f'href="#{field}"' in page.html
            assert f'id="{field}-error"' in page.html
        assert fields(page)["issuer"] == "a:b"
        assert fields(page)["enroll_by"] == "2001-01-01T00:00"
        assert not core.calls_of(UPDATE)


@pytest.mark.parametrize(
    ("refused", "field"),
    [
        (Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "policy.issuer"), "issuer"),
        (
            Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "policy.enroll_by"),
            "enroll_by",
        ),
        (Refused(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_OPERATION"), "operations"),
    ],
)
async def test_what_only_the_core_finds_wrong_is_named_at_its_field(refused, field):
    async with panel() as (core, browser, _):
        page = await opened(browser)
        core.answer(UPDATE, refused)
        page = await browser.post("panel", **fields(page, operation=[OSQUERY, SHELL]))
        assert page.status == 422
        assert f'href="#{field}"' in page.html


async def test_a_selected_operation_that_left_the_catalogue_stays_until_the_selection_changes():
    async with panel() as (core, browser, business):
        business.policy.operations.add(operation="gone.away")
        page = await opened(browser)
        assert "gone.away" in page.text
        await browser.follow(await browser.post("panel", **fields(page, issuer="New")))
        assert core.calls_of(UPDATE)[0].update_mask.paths == ["issuer"]
        page = await browser.get("panel")
        page = await browser.post("panel", **fields(page, operation=[OSQUERY, SHELL]))
        assert "Removed: gone.away needs no code." in page.text


async def test_s21_titles_and_names_of_people_are_escaped():
    async with panel(issuer="<img src=x>") as (_, browser, _):
        page = await opened(browser)
        changed = fields(page, issuer="<img src=y>")
        page = await browser.post("panel", **{**changed, "etag": "old"})
        assert "<img" not in page.html
        assert "<script>alert" not in page.html
        assert "Vault <b>" not in page.html
