"""The account page, as people use it."""

from stepup_tests.browser.portal import person
from stepup_tests.browser.states import account_elevated, heading, submit


def test_an_account_shows_and_ends_its_elevation(portal, visit, tenant):
    bob = person(tenant)
    page = account_elevated(portal, visit(), tenant)
    assert page.locator("[data-countdown]").inner_text().startswith("14:")
    page.locator('a[href$="/end"]').click()
    submit(page, "end")
    assert page.url == portal.return_url
    assert not portal.stepup.enrollment.get(bob).HasField("elevation")


def test_a_person_turns_mfa_on_and_off(portal, visit, tenant):
    bob = person(tenant)
    page = account_elevated(portal, visit(), tenant)
    submit(page, "mfa/on")
    assert portal.stepup.enrollment.get(bob).account_mfa_enabled
    page.locator('a[href$="/mfa"]').click()
    submit(page, "mfa")
    assert not portal.stepup.enrollment.get(bob).account_mfa_enabled


def test_a_person_removes_the_authenticator_by_a_code(portal, visit, tenant):
    bob = person(tenant)
    app = portal.enrolled(bob)
    page = visit().open(portal.link("account", bob))
    page.locator('a[href$="/remove"]').click()
    submit(page, "remove", code=app.code(lasting=4))
    assert not portal.stepup.enrollment.get(bob).HasField("active")


def test_a_lost_device_is_replaced_by_the_reset_code(portal, visit, tenant):
    bob = person(tenant)
    portal.enrolled(bob)
    page = visit().open(portal.link("account", bob))
    page.locator('a[href$="/reset"]').click()
    submit(page, "reset", reset_code=portal.reset_code)
    assert heading(page) == "Install an authenticator app"
    assert not portal.stepup.enrollment.get(bob).HasField("active")
