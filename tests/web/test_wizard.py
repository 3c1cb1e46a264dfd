"""The wizard: each step, reloads, refusals, and where its secrets are."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from stepup_tests.web import Refused, portal

from stepup.rpc.wire.qr import draw
from stepup.v1 import actor_pb2, elevation_pb2, policy_service_pb2, step_up_service_pb2
from stepup.v1 import enrollment_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.web.pages.wizard import in_groups
from stepup.web.reset_codes import problem_of_reset_code
from stepup.web.texts import texts_of

SECRET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
URI = f"otpauth://totp/Acme:bob?secret={SECRET}&issuer=Acme"
RESET_CODE = "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGG"
ENROLL = portal_pb.PORTAL_PAGE_ENROLL


def refused(reason, **details):
    return Refused(grpc.StatusCode.FAILED_PRECONDITION, reason, **details)


class Person:
    """The wizard of a person, as the core keeps it."""

    def __init__(self, core, *, enrolled=False, elevated=False):
        self.state = pb.ENROLLMENT_STATE_UNSPECIFIED
        self.activated_at = datetime.now(UTC) - timedelta(days=9) if enrolled else None
        self.elevated = elevated
        self.right = "123456"
        self.used = ""
        core.answer("EnrollmentService/GetEnrollment", self.get)
        core.answer("EnrollmentService/BeginEnrollment", self.begin)
        core.answer("EnrollmentService/ConfirmEnrollment", self.confirm)
        core.answer("EnrollmentService/CompleteEnrollment", self.complete)
        core.answer("EnrollmentService/CancelEnrollment", self.cancel)
        core.answer("StepUpService/VerifyOtp", self.verify)
        core.answer("PolicyService/GetPolicy", policy_service_pb2.GetPolicyResponse())

    def get(self, _=None):
        answer = pb.GetEnrollmentResponse()
        if self.activated_at:
            answer.active.activated_at.FromDatetime(self.activated_at)
        if self.state:
            answer.pending.state = self.state
            answer.pending.expires_at.FromDatetime(datetime.now(UTC) + timedelta(minutes=9))
        if self.elevated:
            answer.elevation.SetInParent()
        return answer

    def begin(self, call):
        reset_code = call.request.reset_code
        if not self.state and self.activated_at and not self.elevated:
            if not reset_code:
                raise refused("ELEVATION_REQUIRED", next_step="VERIFY_OTP")
            if reset_code == "short":
                raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "reset_code")
            if reset_code != RESET_CODE:
                return pb.BeginEnrollmentResponse(outcome=pb.RESET_OUTCOME_REJECTED)
        self.state = self.state or pb.ENROLLMENT_STATE_PENDING
        answer = pb.BeginEnrollmentResponse(outcome=pb.RESET_OUTCOME_NOT_CHECKED, state=self.state)
        if self.state == pb.ENROLLMENT_STATE_PENDING:
            answer.secret, answer.otpauth_uri, answer.qr_svg = SECRET, URI, draw(URI).svg
        return answer

    def demand(self):
        if not self.state:
            raise refused(
                "ENROLLMENT_STATE", fault="COMPLETED" if self.activated_at else "NOTHING_PENDING"
            )

    def confirm(self, call):
        self.demand()
        code = call.request.code
        if not (len(code) == 6 and code.isascii() and code.isdigit()):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "code")
        answer = pb.ConfirmEnrollmentResponse(
            outcome=pb.CONFIRM_OUTCOME_REJECTED, attempts_remaining=4
        )
        if code == self.used:
            answer.next_code_after.FromSeconds(12)
        elif code == self.right:
            self.state, self.used = pb.ENROLLMENT_STATE_CONFIRMED, code
            answer.outcome, answer.reset_code = pb.CONFIRM_OUTCOME_CONFIRMED, RESET_CODE
        return answer

    def complete(self, call):
        assert call.request.reset_code_stored
        if self.state or not self.activated_at:
            self.demand()
            self.state, self.activated_at = pb.ENROLLMENT_STATE_UNSPECIFIED, datetime.now(UTC)
        return pb.CompleteEnrollmentResponse(enrollment=self.get().active)

    def cancel(self, _):
        self.state = pb.ENROLLMENT_STATE_UNSPECIFIED
        return pb.CancelEnrollmentResponse()

    def verify(self, call):
        if call.request.code != self.right:
            return step_up_service_pb2.VerifyOtpResponse(
                outcome=step_up_service_pb2.OUTCOME_REJECTED, attempts_remaining=3
            )
        self.elevated = True
        return step_up_service_pb2.VerifyOtpResponse(
            outcome=step_up_service_pb2.OUTCOME_VERIFIED, elevation=elevation_pb2.Elevation()
        )


async def test_a_person_goes_from_the_first_step_to_the_console():
    async with portal(ENROLL) as (core, browser):
        Person(core)
        page = await browser.open()
        assert "Set up your authenticator" in page.text
        page = await browser.get("wizard")
        assert "Install an authenticator app" in page.text
        page = await browser.follow(await browser.post("wizard"))
        assert "data:image/svg+xml," in page.html
        assert in_groups(SECRET) in page.text
        page = await browser.post("wizard/scan", code="123 456")
        assert page.status == 200
        assert RESET_CODE in page.html
        page = await browser.follow(await browser.post("wizard/done", stored="yes"))
        assert "when you sign in" in page.text
        page = await browser.post("leave")
        assert (page.status, page.location) == (303, core.session.return_url)
        assert core.calls_of("PortalService/EndPortalSession")
        assert (await browser.get()).status == 401


async def test_s6_secrets_are_on_their_own_step_only():
    async with portal(ENROLL) as (core, browser):
        Person(core)
        pages = [await browser.open(), await browser.get("wizard"), await browser.post("wizard")]
        scan = await browser.get("wizard/scan")
        confirmed = await browser.post("wizard/scan", code="123456")
        for path in ("wizard/scan", "wizard/reset-code"):
            again = await browser.get(path)
            pages += [again if again.status == 200 else await browser.follow(again)]
        pages += [await browser.post("wizard/done", stored="yes"), await browser.get("wizard/done")]
        assert SECRET in scan.html
        assert RESET_CODE in confirmed.html
        for page in [*pages, confirmed]:
            assert SECRET not in page.html
        for page in [*pages, scan]:
            assert RESET_CODE not in page.html
        for page in [*pages, scan, confirmed]:
            headers = page.response.headers
            assert headers["cache-control"] == "no-store"
            for secret in (SECRET, RESET_CODE):
                assert secret not in str(headers)
                assert secret not in str(page.response.url)


async def test_a_reload_shows_the_same_secret():
    async with portal(ENROLL) as (core, browser):
        Person(core)
        await browser.open()
        await browser.post("wizard")
        assert (await browser.post("wizard")).location.endswith("/wizard/scan")
        assert SECRET in (await browser.get("wizard/scan")).html
        assert SECRET in (await browser.get("wizard/scan")).html


async def test_a_reload_of_the_reset_code_asks_for_the_next_code():
    async with portal(ENROLL) as (core, browser):
        person = Person(core)
        await browser.open()
        await browser.post("wizard")
        await browser.post("wizard/scan", code="123456")
        page = await browser.post("wizard/scan", code="123456")
        assert page.status == 422
        assert "Your app is connected" in page.text
        assert "12 seconds" in page.text
        assert (await browser.get("wizard/scan")).location.endswith("/wizard/reset-code")
        assert (await browser.post("wizard")).location.endswith("/wizard/reset-code")
        person.right = "654321"
        assert RESET_CODE in (await browser.post("wizard/reset-code", code="654321")).html


@pytest.mark.parametrize("path", ["wizard/scan", "wizard/reset-code", "wizard/done"])
async def test_a_get_opens_no_wizard(path):
    async with portal(ENROLL) as (core, browser):
        Person(core)
        await browser.open()
        page = await browser.follow(await browser.get(path))
        assert "Your setup has ended" in page.text
        assert not core.calls_of("EnrollmentService/BeginEnrollment")


@pytest.mark.parametrize("code", ["000000", "12345", ""])
async def test_a_wrong_code_keeps_the_step(code):
    async with portal(ENROLL) as (core, browser):
        Person(core)
        await browser.open()
        await browser.post("wizard")
        page = await browser.post("wizard/scan", code=code)
        assert page.status == 422
        assert SECRET in page.html
        assert 'href="#code"' in page.html


async def test_s7_the_fifth_wrong_code_ends_the_setup_in_words():
    async with portal(ENROLL) as (core, browser):
        person = Person(core)
        await browser.open()
        await browser.post("wizard")
        person.state = pb.ENROLLMENT_STATE_UNSPECIFIED
        rejected = pb.ConfirmEnrollmentResponse(outcome=pb.CONFIRM_OUTCOME_REJECTED)
        core.answer("EnrollmentService/ConfirmEnrollment", rejected)
        page = await browser.follow(await browser.post("wizard/scan", code="000000"))
        assert "at most 5 wrong codes" in page.text


async def test_s7_an_expired_setup_begins_again_in_words():
    async with portal(ENROLL) as (core, browser):
        person = Person(core)
        await browser.open()
        await browser.post("wizard")
        person.state = pb.ENROLLMENT_STATE_UNSPECIFIED
        for path, field in (("wizard/scan", "code"), ("wizard/done", "stored")):
            page = await browser.follow(await browser.post(path, **{field: "123456"}))
            assert "it lasts 10 minutes" in page.text
            assert "Next" in page.text


async def test_to_finish_twice_shows_the_end():
    async with portal(ENROLL) as (core, browser):
        Person(core)
        await browser.open()
        await browser.post("wizard")
        await browser.post("wizard/scan", code="123456")
        first = await browser.post("wizard/done", stored="yes")
        second = await browser.post("wizard/done", stored="yes")
        assert first.location == second.location
        late = await browser.follow(await browser.post("wizard/scan", code="123456"))
        assert "Your authenticator is set up" in late.text


async def test_nobody_finishes_without_saying_that_the_reset_code_is_stored():
    async with portal(ENROLL) as (core, browser):
        Person(core)
        await browser.open()
        await browser.post("wizard")
        page = await browser.post("wizard/scan", code="123456")
        assert "novalidate" not in page.html.split("wizard/done")[1].split(">")[0]
        assert "required" in page.html.split('name="stored"')[1].split(">")[0]
        page = await browser.post("wizard/done")
        assert page.status == 422
        assert "Confirm that you have stored" in page.text
        assert not core.calls_of("EnrollmentService/CompleteEnrollment")


@pytest.mark.parametrize("path", ["wizard/scan", "wizard/done"])
async def test_s7_an_authenticator_of_another_session_ends_the_setup(path):
    async with portal(ENROLL) as (core, browser):
        person = Person(core)
        await browser.open()
        await browser.post("wizard")
        changed = refused("ENROLLMENT_STATE", fault="OTHER_AUTHENTICATOR")
        core.answer("EnrollmentService/ConfirmEnrollment", changed)
        core.answer("EnrollmentService/CompleteEnrollment", changed)
        page = await browser.follow(await browser.post(path, code="123456", stored="yes"))
        assert "has changed meanwhile" in page.text
        assert not person.state


async def test_s7_a_replacement_needs_a_code_first():
    async with portal(ENROLL) as (core, browser):
        Person(core, enrolled=True)
        await browser.open()
        page = await browser.get("wizard")
        assert "Replace your authenticator" in page.text
        page = await browser.post("wizard", code="000 000")
        assert page.status == 422
        assert "3 more attempts" in page.text
        page = await browser.follow(await browser.post("wizard", code="123 456"))
        assert SECRET in page.html
        assert "Delete the older entry" in page.text
        assert len(core.calls_of("StepUpService/VerifyOtp")) == 2
        # The second click of a double click leads on, and gives no code.
        assert (await browser.post("wizard", code="123 456")).location.endswith("/wizard/scan")
        assert len(core.calls_of("StepUpService/VerifyOtp")) == 2


async def test_an_elevated_person_replaces_without_another_code():
    async with portal(ENROLL) as (core, browser):
        Person(core, enrolled=True, elevated=True)
        await browser.open()
        assert 'name="code"' not in (await browser.get("wizard")).html
        assert SECRET in (await browser.follow(await browser.post("wizard"))).html


@pytest.mark.parametrize(
    ("typed", "words"),
    [("short", "not a whole reset code"), ("", "not a whole"), ("WRONG", "is not right")],
)
async def test_s7_a_reset_code_replaces_an_authenticator(typed, words):
    async with portal(ENROLL) as (core, browser):
        Person(core, enrolled=True)
        await browser.open()
        page = await browser.get("wizard?by=reset-code")
        assert 'name="reset_code"' in page.html
        page = await browser.post("wizard", reset_code=typed)
        assert page.status == 422
        assert words in page.text
        assert not typed or typed not in page.html
        page = await browser.follow(await browser.post("wizard", reset_code=RESET_CODE))
        assert SECRET in page.html
        assert not core.calls_of("StepUpService/VerifyOtp")


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ({"suspended": True}, "your authenticator is suspended"),
        ({"locked_until": datetime.now(UTC) + timedelta(hours=1)}, "Too many codes were wrong"),
    ],
    ids=["suspended", "locked"],
)
async def test_s5_a_lock_leaves_the_reset_code(lock, words):
    async with portal(ENROLL) as (core, browser):
        person = Person(core, enrolled=True)
        standing = person.get()
        standing.active.MergeFrom(pb.Enrollment(**lock))
        core.answer("EnrollmentService/GetEnrollment", standing)
        await browser.open()
        page = await browser.get("wizard")
        assert words in page.text
        assert 'name="code"' not in page.html
        assert "wizard?by=reset-code" in page.html
        assert 'name="reset_code"' in (await browser.get("wizard?by=reset-code")).html


async def test_to_cancel_changes_nothing():
    async with portal(portal_pb.PORTAL_PAGE_ACCOUNT) as (core, browser):
        person = Person(core)
        await browser.open()
        await browser.post("wizard")
        page = await browser.post("wizard/cancel")
        assert page.location == f"{browser.visit}?done=setup_cancelled"
        assert not person.state


async def test_within_another_visit_the_end_leads_to_its_first_page():
    async with portal(portal_pb.PORTAL_PAGE_CHALLENGE) as (core, browser):
        Person(core)
        await browser.open()
        await browser.post("wizard")
        await browser.post("wizard/scan", code="123456")
        page = await browser.follow(await browser.post("wizard/done", stored="yes"))
        assert f'href="{browser.visit}"' in page.html
        assert (await browser.get("wizard")).location == browser.visit
        no_longer = Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED")
        for method in ("Begin", "Confirm", "Complete", "Cancel"):
            core.answer(f"EnrollmentService/{method}Enrollment", no_longer)
        for path in ("wizard", "wizard/scan", "wizard/done", "wizard/cancel"):
            page = await browser.post(path, code="123456", stored="yes")
            assert page.location.endswith("/wizard/done")


async def test_saml_people_hear_when_codes_are_asked():
    async with portal(ENROLL) as (core, browser):
        core.session.account_type = actor_pb2.ACCOUNT_TYPE_SAML
        Person(core).activated_at = datetime.now(UTC)
        await browser.open()
        assert "You sign in as before" in (await browser.get("wizard/done")).text


@pytest.mark.parametrize(
    ("outcome", "wait", "words"),
    [
        (pb.RESET_OUTCOME_MISTYPED, None, "wrong or missing"),
        (pb.RESET_OUTCOME_THROTTLED, timedelta(minutes=15), "in 15 minutes"),
        (pb.RESET_OUTCOME_REJECTED, None, "not right"),
        (99, None, "not right"),
    ],
)
def test_a_refused_reset_code_is_answered_with_what_to_do(outcome, wait, words):
    assert words in str(problem_of_reset_code(texts_of(["en"]), outcome, wait))


def test_a_key_is_in_groups_of_four():
    assert in_groups("ABCDEFGHI") == "ABCD EFGH I"
