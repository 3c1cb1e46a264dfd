"""The policy panel on a real core: turned on, made weaker with a code, and saved by two."""

from playwright.sync_api import expect
from stepup_tests.browser.portal import administrator
from stepup_tests.browser.states import heading, policy_off, policy_panel

from stepup.client import StepUpClient
from stepup.v1 import policy_service_pb2 as pb

OSQUERY, SHELL = "response.run_osquery", "response.start_remote_shell"


def policy_of(stepup: StepUpClient, tenant: str) -> pb.Policy:
    return stepup.policy.get(tenant_id=tenant).policy


def save(page):
    page.get_by_role("button", name="Save", exact=True).click()


def test_an_administrator_turns_mfa_on_and_with_a_code_off_again(portal, visit, tenant):
    ada = administrator(tenant)
    app = portal.enrolled(ada)
    page = visit(scripts=False).open(portal.link("policy", ada, time_zone="Europe/Berlin"))
    page.get_by_role("link", name="Enable MFA for your business").click()
    page.get_by_label("MFA for your business").check()
    page.get_by_label("Run osquery task", exact=True).check()
    page.get_by_label("Start Remote Shell Session task", exact=True).check()
    page.locator(f'select[name="age.{SHELL}"]').select_option("0")
    page.get_by_label("Name in authenticator apps").fill("Acme <b>")
    save(page)
    assert page.get_by_role("status").inner_text() == "Saved."
    policy = policy_of(portal.stepup, tenant)
    assert policy.enabled
    assert [each.operation for each in policy.operations if each.every_time] == [SHELL]
    assert policy.issuer == "Acme <b>"

    page.get_by_label("MFA for your business").uncheck()
    save(page)
    assert policy_of(portal.stepup, tenant).enabled
    page.get_by_label("Code from your authenticator app").fill(app.code(lasting=4))
    page.get_by_role("button", name="Save all the same").click()
    assert page.get_by_role("status").inner_text() == "Saved."
    assert not policy_of(portal.stepup, tenant).enabled


def test_of_two_administrators_neither_overwrites_the_other_unseen(portal, visit, tenant):
    pages = []
    for user in ("ada", "eve"):
        page = visit().open(portal.link("policy", administrator(tenant, user)))
        page.get_by_role("link", name="Enable MFA for your business").click()
        pages.append(page)
    for page, issuer in zip(pages, ("First", "Second"), strict=True):
        page.get_by_label("Name in authenticator apps").fill(issuer)
        save(page)
    assert policy_of(portal.stepup, tenant).issuer == "First"
    shown = pages[1].get_by_role("row").filter(has_text="Name in authenticator apps")
    expect(shown.get_by_role("cell")).to_have_text(["First", "Second"], use_inner_text=True)
    pages[1].get_by_role("button", name="Save your entries all the same").click()
    assert policy_of(portal.stepup, tenant).issuer == "Second"


def test_all_operations_of_the_catalogue_are_there_by_category(portal, visit, tenant):
    page = policy_panel(portal, visit(), tenant)
    expect(page.locator("input[name=operation]")).to_have_count(15)
    expect(page.locator("fieldset")).to_have_count(3)


def test_enable_mfa_leads_an_administrator_to_both_ways(portal, visit, tenant):
    page = policy_off(portal, visit(), tenant)
    assert heading(page) == "Enable MFA"
    for name in ("Enable MFA for your business", "Set up your authenticator"):
        expect(page.get_by_role("link", name=name)).to_be_visible()
