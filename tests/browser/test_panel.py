"""The policy panel and the account page, as people use them."""

from playwright.sync_api import expect
from stepup_tests.browser.portal import administrator, person
from stepup_tests.browser.states import (
    account_elevated,
    heading,
    policy_off,
    policy_panel,
    policy_saved_by_two,
    policy_weakened,
    save_policy,
    submit,
)

OSQUERY = "response.run_osquery"


def stored(portal, tenant):
    return portal.stepup.policy.get(tenant_id=tenant).policy


def test_an_administrator_turns_mfa_on_and_selects_operations(portal, visit, tenant):
    page = policy_panel(portal, visit(), tenant)
    expect(page.get_by_role("status")).to_have_text("Saved.")
    policy = stored(portal, tenant)
    assert policy.enabled
    assert [each.operation for each in policy.operations] == [
        OSQUERY,
        "response.start_remote_shell",
    ]


def test_all_operations_of_the_catalogue_are_there_by_category(portal, visit, tenant):
    page = policy_panel(portal, visit(), tenant)
    assert page.locator("input[name=operation]").count() == 15
    assert page.locator("fieldset").count() == 3


def test_an_administrator_chooses_how_old_a_code_may_be(portal, visit, tenant):
    page = policy_panel(portal, visit(), tenant)
    choice = page.locator(f'select[name="age.{OSQUERY}"]')
    values = choice.evaluate("(select) => [...select.options].map((each) => each.value)")
    choice.select_option(values[-1])
    save_policy(page)
    [osquery, _] = stored(portal, tenant).operations
    assert osquery.every_time


def test_s9_a_weaker_policy_is_explained_and_needs_a_code(portal, visit, tenant):
    ada = administrator(tenant)
    page = policy_weakened(portal, visit(), tenant)
    app = portal.app_of(ada)
    assert stored(portal, tenant).enabled
    expect(page.locator("#errors")).to_be_focused()
    submit(page, "panel", code=app.wrong_code())
    assert stored(portal, tenant).enabled
    submit(page, "panel", code=app.code(lasting=4))
    expect(page.get_by_role("status")).to_have_text("Saved.")
    assert not stored(portal, tenant).enabled


def test_what_somebody_else_has_saved_is_not_overwritten(portal, visit, tenant):
    page = policy_saved_by_two(portal, visit(), tenant)
    assert stored(portal, tenant).issuer == "Acme Security"
    assert "Somebody else has saved meanwhile" in page.locator("main").inner_text()
    expect(page.locator("input[name=issuer]")).to_have_value("Acme")
    page.get_by_role("button", name="Save your entries all the same").click()
    assert stored(portal, tenant).issuer == "Acme"


def test_enable_mfa_leads_an_administrator_to_both_ways(portal, visit, tenant):
    page = policy_off(portal, visit(), tenant)
    assert heading(page) == "Enable MFA"
    for name in ("Enable MFA for your business", "Set up your authenticator"):
        expect(page.get_by_role("link", name=name)).to_be_visible()


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
