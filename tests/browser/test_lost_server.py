"""The core is killed while people are at its pages."""

import pytest
from playwright.sync_api import expect
from stepup_tests.browser.checks import assert_accessible
from stepup_tests.browser.portal import person, serving_portal
from stepup_tests.browser.states import key_of, submit, wizard_scan
from stepup_tests.browser.visitor import visiting
from stepup_tests.e2e.processes import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def own_portal(tmp_path):
    with serving_portal(tmp_path) as portal:
        yield portal


def test_a_person_goes_on_where_the_core_was_lost(own_portal, browser, tenant):
    bob = person(tenant)
    app = own_portal.enrolled(bob)
    with visiting(browser, own_portal.origin, own_portal.console) as visitor:
        page = visitor.open(own_portal.link("step_up", bob))
        own_portal.core.kill()
        page.locator("input[name=code]").fill(app.code())
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("Please try again")
        assert_accessible(page)
        own_portal.core.start()
        try_again = page.get_by_role("link", name="Try again")

        def is_asked_again():
            if try_again.count():
                try_again.click()
            return page.locator("input[name=code]").count()

        eventually(is_asked_again, "the web process finds the core again")
        page.locator("input[name=code]").fill(app.code())
        page.keyboard.press("Enter")
        page.wait_for_url(own_portal.return_url)
        assert visitor.faults == []
    assert own_portal.stepup.require(bob, "account.sign_in").reason == "MFA_NOT_ENABLED"


def test_a_wizard_survives_the_loss_of_the_core(own_portal, browser, tenant):
    with visiting(browser, own_portal.origin, own_portal.console) as visitor:
        page = wizard_scan(own_portal, visitor, tenant)
        key = key_of(page)
        own_portal.core.kill()
        page.reload()
        expect(page.locator("h1")).to_have_text("Please try again")
        own_portal.core.start()

        def is_back():
            page.reload()
            return page.locator("input[name=code]").count()

        eventually(is_back, "the web process finds the core again")
        assert key_of(page) == key
        submit(page, "wizard/scan", code=key.code(lasting=4))
        expect(page.locator("h1")).to_have_text("Store your reset code")
        assert visitor.faults == []
