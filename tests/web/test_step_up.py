"""The code prompt: a right code leads back, and a refused one is explained."""

from datetime import timedelta

import grpc
import pytest
from stepup_tests.web import Refused, portal
from stepup_tests.web_people import enrollment, verification

from stepup.v1 import portal_service_pb2 as pb

STEP_UP = pb.PORTAL_PAGE_STEP_UP
VERIFY = "StepUpService/VerifyOtp"
GET_ENROLLMENT = "EnrollmentService/GetEnrollment"
CALLER_NOT_PERMITTED = Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED")


async def test_a_right_code_leads_back_to_the_console_and_ends_the_visit():
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment())
        core.answer(VERIFY, verification())
        page = await browser.open()
        assert "Console needs a code from you" in page.text
        assert 'autocomplete="one-time-code"' in page.html
        page = await browser.follow(await browser.post("code", code=" 123 456 "))
        assert core.calls_of(VERIFY)[0].code == "123456"
        assert page.location == core.session.return_url
        assert core.calls_of("PortalService/EndPortalSession")
        assert (await browser.get()).status == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_s21_a_link_of_another_site_ends_no_visit(site):
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment())
        await browser.open()
        browser.client.headers["Sec-Fetch-Site"] = site
        page = await browser.get("leave")
        assert (page.status, page.location) == (303, browser.visit)
        assert not core.calls_of("PortalService/EndPortalSession")
        browser.client.headers["Sec-Fetch-Site"] = "same-origin"
        assert (await browser.get("leave")).location == core.session.return_url


async def test_s22_a_form_that_was_sent_twice_counts_as_done():
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment(elevated_before=timedelta(seconds=2)))
        core.answer(VERIFY, verification("REJECTED", attempts=5, next_code_after=11))
        await browser.open()
        page = await browser.follow(await browser.post("code", code="123456"))
        assert page.location == core.session.return_url


async def test_an_older_elevation_does_not_stand_for_a_code():
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment(elevated_before=timedelta(seconds=31)))
        core.answer(VERIFY, verification("REJECTED", attempts=5, next_code_after=11))
        await browser.open()
        assert (await browser.post("code", code="123456")).status == 422


async def test_a_wrong_code_is_refused_also_in_a_session_that_is_elevated_since_a_moment():
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment(elevated_before=timedelta(seconds=2)))
        core.answer(VERIFY, verification("REJECTED", attempts=4))
        await browser.open()
        page = await browser.post("code", code="123456")
        assert page.status == 422
        assert "4 more attempts" in page.text


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "123456' OR"])
async def test_what_no_app_shows_is_no_attempt(code):
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment())
        await browser.open()
        page = await browser.post("code", code=code)
        assert page.status == 422
        assert "Type the six digits" in page.text
        assert not core.calls_of(VERIFY)


@pytest.mark.parametrize(
    ("answer", "words", "asks_again"),
    [
        (verification("REJECTED", attempts=4), "You have 4 more attempts", True),
        (verification("REJECTED", attempts=1), "You have one more attempt", True),
        (verification("REJECTED", attempts=4, next_code_after=12), "comes in 12 seconds", True),
        (verification("REJECTED", retry_after=900), "You can type a new code in", False),
        (verification("THROTTLED", retry_after=900), "You can type a new code in", False),
        (verification("SUSPENDED"), "Use your reset code", False),
        (verification("SESSION_SPENT"), "Sign out of the console", False),
        (verification("REJECTED"), "Sign out of the console", False),
        (verification("NOT_ENROLLED"), "You have no authenticator yet", False),
    ],
)
async def test_a_refused_code_is_explained(answer, words, asks_again):
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, enrollment())
        core.answer(VERIFY, answer)
        await browser.open()
        page = await browser.post("code", code="123456")
        assert page.status == 422
        assert words in page.text
        assert ('name="code"' in page.html) == asks_again
        waits = answer.HasField("retry_after") or answer.HasField("next_code_after")
        assert ("data-countdown" in page.html) == waits


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (enrollment(suspended=True), "Use your reset code"),
        (enrollment(locked_for=timedelta(minutes=5)), "You can type a new code in"),
        (enrollment(active=False), "turn on MFA in your account settings"),
    ],
)
async def test_a_person_whose_codes_do_not_help_is_not_asked_for_one(state, words):
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, state)
        page = await browser.open()
        assert page.status == 200
        assert words in page.text
        assert 'name="code"' not in page.html


@pytest.mark.parametrize(
    "answer", [CALLER_NOT_PERMITTED, enrollment(locked_for=timedelta(seconds=-1))]
)
async def test_the_prompt_needs_no_more_than_the_code(answer):
    async with portal(STEP_UP) as (core, browser):
        core.answer(GET_ENROLLMENT, answer)
        page = await browser.open()
        assert 'name="code"' in page.html


async def test_s21_the_name_of_the_console_cannot_change_the_page():
    async with portal(STEP_UP) as (core, browser):
        core.session.opened_by = "<script>x</script>"
        core.answer(GET_ENROLLMENT, enrollment())
        page = await browser.open()
        assert "<bdi>&lt;script&gt;x&lt;/script&gt;</bdi>" in page.html
