"""The page of a challenge: what is asked, by whom, and each end of it (S19)."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import grpc
import pytest
from stepup_tests.web import Refused, portal
from stepup_tests.web_people import enrollment

from stepup.v1 import challenge_service_pb2
from stepup.v1 import portal_service_pb2 as pb
from stepup.web.pages.challenge import by_title
from stepup.web.texts import texts_of

CHALLENGE = pb.PORTAL_PAGE_CHALLENGE
GET, ANSWER, DECLINE = (
    f"ChallengeService/{name}Challenge" for name in ("Get", "Answer", "Decline")
)
GET_ENROLLMENT = "EnrollmentService/GetEnrollment"
ENDED = Refused(grpc.StatusCode.FAILED_PRECONDITION, "CHALLENGE_STATE", state="APPROVED")


def item(target="host-7", label="Laptop of Eve", operation="response.run_osquery"):
    return challenge_service_pb2.ChallengeItem(
        operation=operation, title="Run osquery task", target=target, label=label, needed=True
    )


def challenge(state="PENDING", *items, answered=False, **fields):
    made = challenge_service_pb2.Challenge(
        challenge_id=str(uuid4()),
        state=f"CHALLENGE_STATE_{state}",
        items=items or [item()],
        **{"requested_by": "Playbooks", "message": "Collect evidence"} | fields,
    )
    now = datetime.now(UTC)
    made.create_time.FromDatetime(now - timedelta(minutes=3))
    made.expires_at.FromDatetime(now + timedelta(minutes=7))
    if answered:
        made.answered_at.FromDatetime(now)
        made.usable_until.FromDatetime(now + timedelta(minutes=15))
    return made


def shown(asked):
    return challenge_service_pb2.GetChallengeResponse(challenge=asked)


def outcome(name="VERIFIED", **fields):
    return challenge_service_pb2.AnswerChallengeResponse(
        outcome=f"OUTCOME_{name}", challenge=challenge(), **fields
    )


async def test_s19_the_page_shows_actions_and_sender_before_the_message():
    async with portal(CHALLENGE) as (core, browser):
        core.session.challenge_id = "7d3b"
        core.answer(GET, shown(challenge(same_session=False)))
        core.answer(GET_ENROLLMENT, enrollment())
        page = await browser.open()
        assert core.calls_of(GET)[0].challenge_id == "7d3b"
        parts = ["Playbooks", "3 minutes ago", "Another sign-in of yours", "Run osquery task"]
        parts += ["Laptop of Eve", "host-7", "Playbooks writes", "Collect evidence", "Approve"]
        places = [page.text.index(part) for part in parts[:-1]]
        assert places == sorted(places)
        assert "<blockquote><p><bdi>Collect evidence</bdi></p></blockquote>" in page.html


async def test_a_request_from_the_same_sign_in_says_so():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge(same_session=True)))
        core.answer(GET_ENROLLMENT, enrollment())
        assert "Your present sign-in" in (await browser.open()).text


async def test_s19_texts_of_a_caller_are_plain_text():
    async with portal(CHALLENGE) as (core, browser):
        bad = '<img src=x onerror=a()>\u202e"'
        texts = {"requested_by": bad, "message": bad}
        core.answer(GET, shown(challenge("PENDING", item(bad, "x" + bad), **texts)))
        core.answer(GET_ENROLLMENT, enrollment())
        page = await browser.open()
        assert "<img" not in page.html
        assert page.html.count("<bdi>&lt;img src=x onerror=a()&gt;\u202e&#34;</bdi>") == 4


async def test_a_code_approves_and_leads_back():
    async with portal(CHALLENGE) as (core, browser):
        core.session.challenge_id = "7d3b"
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment())
        core.answer(ANSWER, outcome())
        await browser.open()
        page = await browser.follow(await browser.post("approve", code="123 456"))
        assert page.location == core.session.return_url
        (request,) = core.calls_of(ANSWER)
        assert (request.challenge_id, request.code) == ("7d3b", "123456")
        assert core.calls_of("PortalService/EndPortalSession")


async def test_the_person_declines_without_a_code():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment())
        declined = challenge_service_pb2.DeclineChallengeResponse(challenge=challenge("DECLINED"))
        core.answer(DECLINE, declined)
        await browser.open()
        page = await browser.follow(await browser.post("decline"))
        assert page.location == core.session.return_url
        assert not core.calls_of(ANSWER)


@pytest.mark.parametrize("path", ["approve", "decline"])
async def test_an_answer_that_comes_too_late_shows_what_happened(path):
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge("APPROVED", answered=True)))
        core.answer(ANSWER, ENDED)
        core.answer(DECLINE, ENDED)
        await browser.open()
        page = await browser.follow(await browser.post(path, code="123456"))
        assert "You have approved this request" in page.text
        assert not core.calls_of("PortalService/EndPortalSession")


@pytest.mark.parametrize(
    ("answer", "words", "asks_again"),
    [
        (outcome("REJECTED", attempts_remaining=4), "4 more attempts", True),
        (outcome("THROTTLED", retry_after={"seconds": 900}), "in 15 minutes", False),
        (outcome("REJECTED", next_code_after={"seconds": 9}), "comes in 9 seconds", True),
        (outcome("SUSPENDED"), "Use your reset code", False),
        (outcome("SESSION_SPENT"), "sign in again", False),
        (outcome("NOT_ENROLLED"), "Set up an authenticator app", False),
    ],
)
async def test_a_refused_code_leaves_the_challenge_to_answer(answer, words, asks_again):
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment())
        core.answer(ANSWER, answer)
        await browser.open()
        page = await browser.post("approve", code="123456")
        assert page.status == 422
        assert words in page.text
        assert ('name="code"' in page.html) == asks_again
        assert "Laptop of Eve" in page.text
        assert ">Decline<" in page.html


async def test_what_no_app_shows_is_no_attempt():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment())
        await browser.open()
        page = await browser.post("approve", code="12345")
        assert (page.status, core.calls_of(ANSWER)) == (422, [])
        assert "Type the six digits" in page.text


@pytest.mark.parametrize(
    ("state", "answered", "words"),
    [
        ("APPROVED", True, "Each action can run once, until"),
        ("DECLINED", True, "You have declined this request"),
        ("CANCELLED", False, "This request was withdrawn"),
        ("EXPIRED", False, "nothing was approved"),
        ("EXPIRED", True, "the time to use your approval is over"),
        ("UNSPECIFIED", False, "nothing was approved"),
    ],
)
async def test_each_end_is_explained_and_asks_nothing(state, answered, words):
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge(state, answered=answered)))
        page = await browser.open()
        assert words in page.text
        assert "<form" not in page.html


async def test_a_used_item_says_so():
    async with portal(CHALLENGE) as (core, browser):
        used = item()
        used.used_at.FromDatetime(datetime(2026, 11, 28, 12, tzinfo=UTC))
        core.answer(GET, shown(challenge("APPROVED", used, answered=True)))
        assert "Approval used: Nov 28, 2026, 1:00:00" in (await browser.open()).text


async def test_a_challenge_of_others_and_an_unknown_one_look_the_same():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, Refused(grpc.StatusCode.FAILED_PRECONDITION, "CHALLENGE_STATE"))
        page = await browser.open()
        assert page.status == 404
        assert "it asks somebody else" in page.text


async def test_a_person_without_an_authenticator_is_led_through_the_wizard():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment(active=False))
        page = await browser.open()
        assert f'href="{browser.visit}wizard"' in page.html
        assert 'name="code"' not in page.html
        assert ">Decline<" in page.html
        assert "Install an authenticator app" in (await browser.get("wizard")).text


async def test_a_lock_leaves_the_way_to_decline():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(GET_ENROLLMENT, enrollment(locked_for=timedelta(minutes=5)))
        page = await browser.open()
        assert page.status == 200
        assert 'name="code"' not in page.html
        assert ">Decline<" in page.html


async def test_the_page_needs_no_more_than_the_challenge():
    async with portal(CHALLENGE) as (core, browser):
        core.answer(GET, shown(challenge()))
        core.answer(
            GET_ENROLLMENT, Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED")
        )
        assert 'name="code"' in (await browser.open()).html


async def test_s19_the_address_of_a_challenge_opens_nothing():
    async with portal(CHALLENGE) as (core, browser):
        await browser.open()
        core.calls.clear()
        pages = [await browser.get(f"/challenges/{name}") for name in (uuid4(), "x")]
        assert pages[0].status == 200
        assert pages[0].html == pages[1].html
        assert "Sign in at your console" in pages[0].text
        assert not core.calls


def test_neighbours_of_one_operation_have_one_title():
    one, other = item("a"), item("b", operation="response.collect_file")
    grouped = by_title(texts_of(["en"]), [one, one, other, one])
    assert [len(items) for _, items in grouped] == [2, 1, 1]
