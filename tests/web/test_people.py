"""The page of people: lists, one person, and what ends locks and authenticators."""

import grpc
import pytest
from stepup_tests.web import Refused, portal

from stepup.v1 import enrollment_service_pb2 as enrollment_pb
from stepup.v1 import people_service_pb2 as pb
from stepup.v1 import portal_service_pb2 as portal_pb
from stepup.v1 import step_up_service_pb2 as step_up_pb

EVERY_CHARACTER = "".join(map(chr, range(0x21, 0x7F)))
ELEVATION_REQUIRED = Refused(
    grpc.StatusCode.FAILED_PRECONDITION, "ELEVATION_REQUIRED", next_step="VERIFY_OTP"
)
METHODS = {
    "unlock": ("PeopleService/UnlockUser", pb.UnlockUserResponse()),
    "reset": (
        "EnrollmentService/AdminResetEnrollment",
        enrollment_pb.AdminResetEnrollmentResponse(),
    ),
    "forget": ("PeopleService/ForgetUser", pb.ForgetUserResponse()),
}


def people():
    return portal(portal_pb.PORTAL_PAGE_PEOPLE)


def person(user_id="ada", *states, **fields):
    made = pb.Person(user_id=user_id, states=states or (pb.PERSON_STATE_ENROLLED,), **fields)
    made.enrollment.activated_at.FromJsonString("2026-11-01T12:00:00Z")
    return made


def locked(user_id="ada"):
    return person(user_id, pb.PERSON_STATE_ENROLLED, pb.PERSON_STATE_LOCKED)


async def opened(core, browser, *, elevated=True, known=None):
    """Open the page for an administrator, who knows one person."""
    own = enrollment_pb.GetEnrollmentResponse()
    own.active.enrollment_id = "own"
    if elevated:
        own.elevation.expires_at.GetCurrentTime()
    core.answer("EnrollmentService/GetEnrollment", own)
    core.answer("PeopleService/ListPeople", pb.ListPeopleResponse())
    core.answer("PeopleService/GetPerson", pb.GetPersonResponse(person=known or locked()))
    for method, answer in METHODS.values():
        core.answer(method, answer)
    await browser.open()


def demands_elevation(core, method, answer):
    """The core demands an elevation until a code was right."""

    def ask(_):
        if not core.calls_of("StepUpService/VerifyOtp"):
            raise ELEVATION_REQUIRED
        return answer

    core.answer(method, ask)


def verified():
    answer = step_up_pb.VerifyOtpResponse(outcome=step_up_pb.OUTCOME_VERIFIED)
    answer.elevation.expires_at.GetCurrentTime()
    return answer


async def test_the_list_shows_counts_states_and_times():
    async with people() as (core, browser):
        await opened(core, browser)
        listed = [
            locked("ada"),
            pb.Person(
                user_id="bob",
                states=[pb.PERSON_STATE_NOT_ENROLLED, pb.PERSON_STATE_IN_GRACE],
            ),
        ]
        listed[1].last_asked_at.FromJsonString("2026-11-02T23:30:00Z")
        counts = pb.PeopleCounts(enrolled=1200, not_enrolled=34, in_grace=5)
        core.answer("PeopleService/ListPeople", pb.ListPeopleResponse(people=listed, counts=counts))
        page = await browser.get()
        assert page.status == 200
        assert "Authenticator set up (1,200)" in page.text
        assert "Asked, no authenticator (34)" in page.text
        assert "Locked for a time" in page.text
        assert "Nov 1, 2026, 1:00:00" in page.text  # in Berlin
        assert "Last asked Nov 3, 2026" in page.text


async def test_the_list_is_filtered_by_state_and_read_by_pages_of_50():
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer(
            "PeopleService/ListPeople",
            pb.ListPeopleResponse(people=[locked()], next_page_token="a+/=&b"),
        )
        page = await browser.get("?state=locked")
        request = core.calls_of("PeopleService/ListPeople")[-1]
        assert (request.state, request.page_size) == (pb.PERSON_STATE_LOCKED, 50)
        assert "?state=locked&amp;from=a%2B%2F%3D%26b" in page.html
        page = await browser.get("?state=locked&from=a%2B%2F%3D%26b")
        assert core.calls_of("PeopleService/ListPeople")[-1].page_token == "a+/=&b"
        assert "First page" in page.text


async def test_a_token_of_another_list_leads_to_the_first_page():
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer(
            "PeopleService/ListPeople",
            Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "page_token"),
        )
        page = await browser.get("?state=locked&from=x")
        assert page.location == f"{browser.visit}?state=locked"


async def test_a_user_id_of_any_characters_stays_itself_on_every_way():
    async with people() as (core, browser):
        known = locked(EVERY_CHARACTER)
        await opened(core, browser, known=known)
        core.answer("PeopleService/ListPeople", pb.ListPeopleResponse(people=[known]))
        page = await browser.get()
        page = await browser.get(page.link("person"))
        assert core.calls_of("PeopleService/GetPerson")[-1].user_id == EVERY_CHARACTER
        page = await browser.get(page.link("unlock"))
        assert core.calls_of("PeopleService/GetPerson")[-1].user_id == EVERY_CHARACTER
        assert page.field("user") == EVERY_CHARACTER
        page = await browser.post("unlock", user=page.field("user"), reason="called me")
        assert core.calls_of("PeopleService/UnlockUser")[-1].user_id == EVERY_CHARACTER
        await browser.follow(page)
        assert core.calls_of("PeopleService/GetPerson")[-1].user_id == EVERY_CHARACTER


@pytest.mark.parametrize("action", METHODS)
async def test_an_action_says_what_will_happen_and_needs_a_reason(action):
    async with people() as (core, browser):
        await opened(core, browser)
        method, answer = METHODS[action]
        page = await browser.get(f"{action}?user=ada")
        assert "What will happen" in page.text
        assert 'name="code"' not in page.html  # the session is elevated
        assert core.calls_of(method) == []
        core.answer(method, Refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "reason"))
        page = await browser.post(action, user="ada", reason="")
        assert page.status == 422
        assert "Give a reason" in page.text
        core.answer(method, answer)
        page = await browser.post(action, user="ada", reason="a <b>phone</b> call")
        request = core.calls_of(method)[-1]
        assert (request.user_id, request.reason) == ("ada", "a <b>phone</b> call")
        assert "status" in (await browser.follow(page)).html


@pytest.mark.parametrize("action", METHODS)
async def test_a_code_in_the_same_form_elevates_and_nothing_is_typed_twice(action):
    async with people() as (core, browser):
        await opened(core, browser, elevated=False)
        demands_elevation(core, *METHODS[action])
        core.answer("StepUpService/VerifyOtp", verified())
        page = await browser.get(f"{action}?user=ada")
        assert 'name="code"' in page.html
        page = await browser.post(action, user="ada", reason="left", code="123 456")
        assert page.status == 303
        assert core.calls_of("StepUpService/VerifyOtp")[0].code == "123456"
        assert len(core.calls_of(METHODS[action][0])) == 2


async def test_an_elevation_that_ended_meanwhile_asks_for_a_code_and_keeps_the_reason():
    async with people() as (core, browser):
        await opened(core, browser, elevated=False)
        demands_elevation(core, *METHODS["reset"])
        page = await browser.post("reset", user="ada", reason="lost phone")
        assert page.status == 422
        assert 'name="code"' in page.html
        assert page.field("reason") == "lost phone"
        assert core.calls_of("StepUpService/VerifyOtp") == []


async def test_a_wrong_code_does_nothing():
    async with people() as (core, browser):
        await opened(core, browser, elevated=False)
        core.answer("EnrollmentService/AdminResetEnrollment", ELEVATION_REQUIRED)
        core.answer(
            "StepUpService/VerifyOtp",
            step_up_pb.VerifyOtpResponse(outcome=step_up_pb.OUTCOME_REJECTED, attempts_remaining=3),
        )
        page = await browser.post("reset", user="ada", reason="lost phone", code="123456")
        assert page.status == 422
        assert "3 more attempts" in page.text
        assert len(core.calls_of("EnrollmentService/AdminResetEnrollment")) == 1


async def test_a_form_sent_twice_uses_no_second_code():
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer(
            "EnrollmentService/AdminResetEnrollment",
            Refused(
                grpc.StatusCode.FAILED_PRECONDITION, "ENROLLMENT_STATE", fault="NO_AUTHENTICATOR"
            ),
        )
        page = await browser.post("reset", user="ada", reason="lost phone", code="123456")
        assert core.calls_of("StepUpService/VerifyOtp") == []
        assert "no authenticator any more" in (await browser.follow(page)).text


async def test_an_administrator_without_an_authenticator_sees_why_nothing_can_be_done():
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer("EnrollmentService/GetEnrollment", enrollment_pb.GetEnrollmentResponse())
        page = await browser.get("reset?user=ada")
        assert "You have no authenticator yet" in page.text
        assert 'name="reason"' not in page.html
        assert f'href="{browser.visit}wizard"' in page.html


async def test_a_person_in_no_state_has_no_authenticator():
    async with people() as (core, browser):
        await opened(core, browser, known=pb.Person(user_id="ada"))
        page = await browser.get("person?user=%20ada%20")
        assert core.calls_of("PeopleService/GetPerson")[-1].user_id == "ada"
        assert "No authenticator" in page.text
        assert "reset?" not in page.html


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused(grpc.StatusCode.FAILED_PRECONDITION, "NOT_FOR_ONESELF"), "for yourself"),
        (Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "UNLOCK_LIMIT"), "three times"),
        (
            Refused(grpc.StatusCode.FAILED_PRECONDITION, "ENROLLMENT_STATE", fault="SUSPENDED"),
            "Only a reset helps",
        ),
        (
            Refused(grpc.StatusCode.FAILED_PRECONDITION, "ELEVATION_REQUIRED", next_step="ENROLL"),
            "authenticator of your own",
        ),
    ],
    ids=lambda each: each.reason if isinstance(each, Refused) else None,
)
async def test_a_refusal_is_answered_in_words(error, words):
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer("PeopleService/UnlockUser", error)
        page = await browser.post("unlock", user="ada", reason="called me")
        assert page.status == 422
        assert words in page.text
        assert page.field("reason") == "called me"


@pytest.mark.parametrize("path", ["person", *METHODS])
async def test_an_unknown_person_is_named_and_can_be_searched_again(path):
    async with people() as (core, browser):
        await opened(core, browser)
        core.answer("PeopleService/GetPerson", Refused(grpc.StatusCode.NOT_FOUND, "UNKNOWN_PERSON"))
        page = await browser.get(f"{path}?user=%3Cb%3Eeve")
        assert page.status == 404
        assert "<bdi>&lt;b&gt;eve</bdi>" in page.html
        assert page.field("user") == "<b>eve"


async def test_nobody_acts_for_oneself():
    async with people() as (core, browser):
        await opened(core, browser, known=locked("bob"))  # the person of the visit
        page = await browser.get("person?user=bob")
        assert "This is you" in page.text
        assert "reset?" not in page.html
        assert (await browser.get("reset?user=bob")).status == 303


async def test_an_unlock_is_offered_only_where_it_helps():
    async with people() as (core, browser):
        suspended = person("ada", pb.PERSON_STATE_LOCKED, pb.PERSON_STATE_SUSPENDED)
        suspended.enrollment.suspended = True
        await opened(core, browser, known=suspended)
        page = await browser.get("person?user=ada")
        assert "unlock?" not in page.html
        assert "reset?" in page.html
        assert "Only a reset helps" in page.text


async def test_s21_without_the_token_of_the_form_nothing_happens():
    async with people() as (core, browser):
        await opened(core, browser)
        for action, (method, _) in METHODS.items():
            page = await browser.post(action, csrf="", user="ada", reason="x")
            assert page.status == 403
            assert core.calls_of(method) == []
