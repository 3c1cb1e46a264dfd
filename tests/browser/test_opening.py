"""Links and visits: scanners use nothing up, two people stay apart, a visit ends when it must."""

import re
import urllib.error
import urllib.request

import pytest
from stepup_tests.browser.checks import (
    assert_accessible,
    assert_keys_reach_everything,
    assert_nothing_is_clipped,
    assert_well_formed,
)
from stepup_tests.browser.portal import administrator, person
from stepup_tests.browser.states import heading, submit

ENDED = "This visit has ended"


def fetched(address, method="GET"):
    """What a link scanner gets: no cookies, no scripts, redirects followed."""
    request = urllib.request.Request(address, method=method)  # noqa: S310  # http
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_the_pages_without_a_visit_are_readable(portal, visit, language):
    page = visit(language=language).new_tab()
    for path in ("open/unknown", "v/unknown/", "nothing"):
        page.goto(f"{portal.origin}/{path}")
        assert_accessible(page)
        assert_nothing_is_clipped(page)
        assert_well_formed(page, language)
        assert_keys_reach_everything(page)


@pytest.mark.parametrize("scripts", [True, False])
def test_s20_scanners_of_links_use_nothing_up(portal, visit, tenant, scripts):
    link = portal.link("account", person(tenant))
    unknown = link[:-4] + "AAAA"
    for method in ("HEAD", "GET", "GET"):
        assert fetched(link, method) == fetched(unknown, method)
    page = visit(scripts=scripts).open(link)
    assert "bob" in page.locator("header").inner_text()
    # A scanner on the person's own machine has no cookie either.
    for address in (page.url, *addresses(page)):
        assert fetched(address)[0] in (200, 401, 405), address
    page.reload()
    assert heading(page) != ENDED


def test_s20_addresses_of_a_page_change_nothing_when_the_browser_prefetches_them(
    portal, visit, tenant
):
    portal.enrolled(person(tenant))
    page = visit().open(portal.link("account", person(tenant)))
    before = page.locator("main").inner_text()
    for address in addresses(page):
        assert page.request.get(address).status < 500
    page.reload()
    assert re.sub("[0-9]", "", page.locator("main").inner_text()) == re.sub("[0-9]", "", before)


def addresses(page):
    """The addresses of our own that a page links to."""
    found = page.evaluate("() => [...document.links].map((link) => link.href)")
    return {each for each in found if each.startswith(page.url.partition("/v/")[0])}


def test_s20_a_link_opens_once(portal, visit, tenant):
    link = portal.link("account", person(tenant))
    visit().open(link)
    thief = visit().new_tab()
    thief.goto(link)
    thief.locator("button.main").click()
    assert heading(thief) == ENDED
    assert_accessible(thief)


def test_s20_the_same_browser_comes_back_to_its_visit(portal, visit, tenant):
    link = portal.link("account", person(tenant))
    page = visit().open(link)
    opened = page.url
    page.goto(link)
    assert page.url == opened
    page.go_back()
    assert heading(page) != ENDED


def test_s20_two_people_in_one_browser_stay_apart(portal, visit, tenant):
    visitor = visit()
    bob, carol = person(tenant), person(tenant, "carol")
    of_bob = visitor.open(portal.link("enroll", bob, account_name="bob@acme.example"))
    of_carol = visitor.open(portal.link("enroll", carol, account_name="carol@acme.example"))
    assert len(visitor.cookies()) == 2
    for page in (of_bob, of_carol, of_bob):
        page.reload()
        page.get_by_role("link", name="Set up").or_(page.get_by_role("button", name="Next")).click()
    for page, name in ((of_bob, "bob"), (of_carol, "carol")):
        assert f"{name}@acme.example" in page.locator("header").inner_text()
    # A form of one in the tab of the other changes nothing.
    token = of_bob.locator("input[name=csrf]").first.get_attribute("value")
    forged = of_carol.locator("input[name=csrf]").first
    forged.evaluate("(field, token) => { field.value = token; }", token)
    submit(of_carol, "wizard")
    assert heading(of_carol) == "Nothing has changed"
    assert not portal.stepup.enrollment.get(carol).HasField("pending")


def test_s20_a_sign_out_ends_the_pages_of_the_session(portal, visit, tenant):
    bob = person(tenant)
    visitor = visit()
    page = visitor.open(portal.link("account", bob))
    portal.stepup.sign_out(bob)
    page.reload()
    assert heading(page) == ENDED
    assert visitor.cookies() == []
    assert_accessible(page)


def test_s20_the_pages_of_a_demoted_administrator_end_within_two_seconds(portal, visit, tenant):
    ada = administrator(tenant)
    page = visit().open(portal.link("policy", ada))
    portal.stepup.revoke_elevations(ada)
    page.wait_for_timeout(2000)
    page.reload()
    assert heading(page) == ENDED


def test_the_way_back_leads_to_the_console(portal, visit, tenant):
    page = visit().open(portal.link("account", person(tenant)))
    page.get_by_role("link", name="Back to the console").click()
    assert page.url == portal.return_url


def test_no_page_stays_in_the_browsers_cache(portal, visit, tenant):
    page = visit().open(portal.link("account", person(tenant)))
    assert page.reload().headers["cache-control"] == "no-store"
