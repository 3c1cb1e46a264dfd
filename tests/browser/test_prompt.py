"""The code prompt and challenges, as people use them."""

import re

import pytest
from playwright.sync_api import expect
from stepup_tests.browser.checks import press_tab_to
from stepup_tests.browser.portal import person
from stepup_tests.browser.states import (
    challenge,
    challenge_not_enrolled,
    created_challenge,
    heading,
    key_of,
    spaced,
    step_up,
    submit,
)

from stepup.v1.challenge_service_pb2 import ChallengeState


def state_of(portal, actor, challenge_id):
    found = portal.stepup.challenges.get(actor, challenge_id=challenge_id).challenge
    return ChallengeState.Name(found.state).removeprefix("CHALLENGE_STATE_")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_right_code_elevates_and_leads_back(portal, visit, tenant, scripts):
    bob = person(tenant)
    app = portal.enrolled(bob)
    page = visit(scripts=scripts).open(portal.link("step_up", bob))
    submit(page, "code", code=spaced(app.code(lasting=4)))
    assert page.url == portal.return_url
    assert portal.stepup.enrollment.get(bob).HasField("elevation")


def test_a_code_is_pasted_with_what_stands_around_it(portal, visit, tenant):
    bob = person(tenant)
    app = portal.enrolled(bob)
    visitor = visit(permissions=["clipboard-read", "clipboard-write"])
    page = visitor.open(portal.link("step_up", bob))
    page.evaluate("(text) => navigator.clipboard.writeText(text)", f" {spaced(app.code())}\n")
    page.locator("input[name=code]").focus()
    page.keyboard.press("Control+V")
    page.keyboard.press("Enter")
    page.wait_for_url(portal.return_url)


def test_the_field_of_a_code_is_for_phones_and_their_autofill(portal, visit, tenant):
    field = step_up(portal, visit(), tenant).locator("input[name=code]")
    expect(field).to_have_attribute("autocomplete", "one-time-code")
    expect(field).to_have_attribute("inputmode", "numeric")


def test_a_wrong_code_is_explained_and_the_right_one_then_counts(portal, visit, tenant):
    bob = person(tenant)
    app = portal.enrolled(bob)
    page = visit().open(portal.link("step_up", bob))
    submit(page, "code", code=app.wrong_code())
    expect(page.locator("#errors")).to_be_focused()
    press_tab_to(page, page.locator("input[name=code]"))
    page.keyboard.type(app.code(lasting=4))
    page.keyboard.press("Enter")
    page.wait_for_url(portal.return_url)


def test_a_form_is_sent_once_however_often_it_is_pressed(portal, visit, tenant):
    bob = person(tenant)
    app = portal.enrolled(bob)
    page = visit().open(portal.link("step_up", bob))
    page.locator("input[name=code]").fill(app.code(lasting=4))
    page.locator('form[action$="/code"] button').dblclick()
    page.wait_for_url(portal.return_url)
    assert not portal.stepup.enrollment.get(bob).active.HasField("locked_until")


def test_the_visit_is_over_after_the_code(portal, visit, tenant):
    bob = person(tenant)
    app = portal.enrolled(bob)
    page = visit().open(portal.link("step_up", bob))
    submit(page, "code", code=app.code(lasting=4))
    assert page.url == portal.return_url
    page.go_back()
    assert heading(page) == "This visit has ended"


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_s19_a_person_sees_what_is_asked_and_approves_it(portal, visit, tenant, scripts):
    bob = person(tenant)
    app = portal.enrolled(bob)
    challenge_id = created_challenge(portal, bob)
    page = visit(scripts=scripts).open(portal.link("challenge", bob, challenge_id=challenge_id))
    shown = page.locator("main").inner_text()
    for text in (
        *("Acme Console", "Another sign-in of yours", "Start Remote Shell Session task"),
        *("mail.acme.example", "i-0f3a9be2d7c1f7744", "Look into incident 7"),
    ):
        assert text in shown
    submit(page, "approve", code=spaced(app.code(lasting=4)))
    assert page.url == portal.return_url
    assert state_of(portal, bob, challenge_id) == "APPROVED"
    assert not portal.stepup.enrollment.get(bob).HasField("elevation")


def test_s19_a_person_declines(portal, visit, tenant):
    bob = person(tenant)
    portal.enrolled(bob)
    challenge_id = created_challenge(portal, bob)
    page = visit().open(portal.link("challenge", bob, challenge_id=challenge_id))
    submit(page, "decline")
    assert page.url == portal.return_url
    assert state_of(portal, bob, challenge_id) == "DECLINED"


def test_a_challenge_that_is_answered_elsewhere_says_so(portal, visit, tenant):
    page = challenge(portal, visit(), tenant)
    challenges = portal.stepup.challenges
    bob = person(tenant)
    [pending] = challenges.list(bob).challenges
    challenges.decline(bob, challenge_id=pending.challenge_id)
    submit(page, "approve", code="123456")
    assert heading(page) == "You have declined this request"


def test_a_person_without_an_authenticator_enrols_and_then_approves(portal, visit, tenant):
    page = challenge_not_enrolled(portal, visit(), tenant)
    page.get_by_role("link", name="Set up an authenticator app").click()
    submit(page, "wizard")
    app = key_of(page)
    submit(page, "wizard/scan", code=app.code(lasting=4))
    page.locator("input[name=stored]").check()
    submit(page, "wizard/done")
    page.get_by_role("link", name="Continue").click()
    assert heading(page) == "Do you approve this request?"
    expect(page.locator('form[action$="/approve"]')).to_be_visible()


def test_a_countdown_runs_and_says_when_it_is_over(portal, visit, tenant):
    page = challenge(portal, visit(), tenant)
    page.clock.install()
    page.reload()
    timer = page.locator("[data-countdown]")
    expect(timer).to_have_text(re.compile("9:[0-9]{2}"))
    page.clock.run_for(60_000)
    expect(timer).to_have_text(re.compile("8:[0-9]{2}"))
    page.clock.run_for(600_000)
    expect(page.locator("#over")).to_be_visible()
