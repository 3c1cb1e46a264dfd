"""Enable MFA and the wizard: the whole way, and everything that people do on the way."""

import io

import pytest
from PIL import Image
from playwright.sync_api import expect
from stepup_tests.browser.checks import press_tab_to
from stepup_tests.browser.portal import person
from stepup_tests.browser.states import (
    enroll,
    enroll_when_enrolled,
    heading,
    key_of,
    spaced,
    submit,
    wizard_install,
    wizard_reset_code,
    wizard_scan,
)
from stepup_tests.e2e.authenticator_app import AuthenticatorApp


def scanned(page):
    """The app of a person who points the camera at the page."""
    shown = page.locator("img.qr").screenshot()
    return AuthenticatorApp.scanning(Image.open(io.BytesIO(shown)))


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_person_scans_types_the_code_and_stores_the_reset_code(portal, visit, tenant, scripts):
    page = wizard_install(portal, visit(scripts=scripts), tenant)
    assert heading(page) == "Install an authenticator app"
    submit(page, "wizard")
    assert heading(page) == "Connect your app"
    submit(page, "wizard/scan", code=spaced(scanned(page).code(lasting=4)))
    assert heading(page) == "Store your reset code"
    page.get_by_label("I have stored my reset code in a safe location").check()
    submit(page, "wizard/done")
    assert heading(page) == "Your authenticator is set up"
    page.get_by_role("button", name="Continue to the console").click()
    assert page.url == portal.return_url
    assert portal.stepup.enrollment.get(person(tenant)).active.has_reset_code


def test_the_qr_code_is_read_at_120_pixels(portal, visit, tenant):
    page = wizard_scan(portal, visit(), tenant)
    typed = key_of(page)
    page.locator("img.qr").evaluate("(image) => { image.style.width = '120px'; }")
    assert scanned(page) == typed


def test_the_qr_code_stays_dark_on_light_on_a_dark_page(portal, visit, tenant):
    page = wizard_scan(portal, visit(dark=True), tenant)
    assert scanned(page) == key_of(page)


def test_a_person_needs_no_more_than_a_keyboard(portal, visit, tenant):
    page = enroll(portal, visit(), tenant)
    press_tab_to(page, page.get_by_role("link", name="Set up your authenticator"))
    page.keyboard.press("Enter")
    press_tab_to(page, page.get_by_role("button", name="Next"))
    page.keyboard.press("Enter")
    summary = page.locator("summary")
    press_tab_to(page, summary)
    page.keyboard.press("Enter")
    expect(page.locator("details")).to_have_attribute("open", "")
    press_tab_to(page, page.locator("input[name=code]"))
    page.keyboard.type(spaced(key_of(page).code(lasting=4)))
    page.keyboard.press("Enter")
    press_tab_to(page, page.locator("input[name=stored]"))
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Your authenticator is set up")
    press_tab_to(page, page.get_by_role("button", name="Continue to the console"))
    page.keyboard.press("Enter")
    page.wait_for_url(portal.return_url)


def test_a_reload_shows_each_step_again(portal, visit, tenant):
    page = wizard_scan(portal, visit(), tenant)
    key = key_of(page)
    page.reload()
    assert key_of(page) == key
    submit(page, "wizard/scan", code=key.code(lasting=4))
    page.reload()  # sends the code again, which does not count twice
    assert heading(page) in ("Connect your app", "Your app is connected")
    page.goto(page.url.replace("wizard/scan", "wizard/reset-code"))
    assert heading(page) == "Your app is connected"
    page.locator("input[name=stored]").check()
    submit(page, "wizard/done")
    page.reload()
    assert heading(page) == "Your authenticator is set up"


def test_the_back_button_leads_to_the_step_that_was_reached(portal, visit, tenant):
    page = wizard_scan(portal, visit(), tenant)
    submit(page, "wizard/scan", code=key_of(page).code(lasting=4))
    page.go_back()
    assert heading(page) == "Your app is connected"
    assert page.locator("img.qr").count() == 0
    page.locator("input[name=stored]").check()
    submit(page, "wizard/done")
    page.go_back()
    assert heading(page) == "Your authenticator is set up"


def test_a_second_tab_has_the_same_key(portal, visit, tenant):
    visitor = visit()
    page = wizard_scan(portal, visitor, tenant)
    other = visitor.new_tab()
    other.goto(page.url)
    assert key_of(other) == key_of(page)
    submit(other, "wizard/scan", code=key_of(page).code(lasting=4))
    page.reload()
    assert heading(page) == "Your app is connected"


def test_a_wrong_code_leaves_the_key_and_says_why(portal, visit, tenant):
    page = wizard_scan(portal, visit(), tenant)
    key = key_of(page)
    submit(page, "wizard/scan", code=key.wrong_code())
    errors = page.locator("#errors")
    expect(errors).to_be_focused()
    errors.get_by_role("link").click()
    expect(page.locator("input[name=code]")).to_be_focused()
    assert key_of(page) == key


def test_a_person_copies_and_saves_the_reset_code(portal, visit, tenant):
    page = wizard_reset_code(
        portal, visit(permissions=["clipboard-read", "clipboard-write"]), tenant
    )
    shown = page.locator("[data-download]").inner_text()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == shown
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a text file").click()
    assert shown in download.value.path().read_text()
    assert download.value.suggested_filename == "reset-code.txt"


def test_the_reset_code_is_on_no_page_a_second_time(portal, visit, tenant):
    page = wizard_reset_code(portal, visit(), tenant)
    shown = page.locator("[data-download]").inner_text()
    for address in ("wizard/scan", "wizard/reset-code", "wizard", ""):
        page.goto(f"{page.url.partition('/wizard')[0].rstrip('/')}/{address}")
        assert shown not in page.content()


def test_a_person_replaces_the_authenticator_by_a_code_of_the_old_one(portal, visit, tenant):
    old = portal.enrolled(person(tenant))
    page = visit().open(portal.link("enroll", person(tenant)))
    page.get_by_role("link", name="Replace your authenticator").click()
    submit(page, "wizard", code=spaced(old.code()))
    new = key_of(page)
    assert new != old
    submit(page, "wizard/scan", code=new.code(lasting=4))
    page.locator("input[name=stored]").check()
    submit(page, "wizard/done")
    assert heading(page) == "Your authenticator is set up"


def test_enable_mfa_appears_once(portal, visit, tenant):
    page = enroll_when_enrolled(portal, visit(), tenant)
    page.get_by_role("button", name="Continue to the console").click()
    assert page.url == portal.return_url
