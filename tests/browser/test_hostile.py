"""What strangers write, and what strangers' pages do, reaches nobody (S20, S21)."""

import pytest
from stepup_tests.browser.portal import administrator, person
from stepup_tests.browser.states import submit

from stepup.client import NewChallengeItem

TEXTS = {
    "html": '"><img src=x onerror="document.title=1"><script>document.title=1</script>',
    "template": "{{ 7 * 7 }}{% raw %}${7*7}",
    "attribute": "' onmouseover='document.title=1' x='",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_s21_texts_of_people_are_shown_as_they_are(portal, visit, tenant, text):
    bob = person(tenant)
    challenge = portal.stepup.challenges.create(
        person(tenant, session="agent"),
        items=[NewChallengeItem(operation="response.run_osquery", target=text, label=f"A {text}")],
        message=f"M {text}",
    ).challenge
    link = portal.link(
        "challenge", bob, challenge_id=challenge.challenge_id, account_name=f"N {text}"[:100]
    )
    page = visit().open(link)
    shown = page.locator("body").inner_text()
    for written in (text, f"A {text}", f"M {text}", f"N {text}"[:100]):
        assert written in shown
    assert page.title() != "1"


def test_s21_a_text_that_turns_around_turns_nothing_else(portal, visit, tenant):
    """Hebrew is allowed; the words around stay where they are."""
    bob = person(tenant)
    page = visit().open(portal.link("enroll", bob, account_name="אבג דהו 123"))
    name = page.locator("header bdi").last
    assert name.inner_text() == "אבג דהו 123"
    assert page.locator("h1").evaluate("(h1) => getComputedStyle(h1).direction") == "ltr"


def test_s21_a_user_id_from_an_address_is_shown_as_it_is(portal, visit, tenant):
    page = visit().open(portal.link("people", administrator(tenant)))
    submit(page, "person", user="<b>x</b>")
    assert "<b>x</b>" in page.locator("main").inner_text()


def test_s21_no_other_page_frames_ours(portal, visit, tenant):
    visitor = visit()
    link = portal.link("account", person(tenant))
    page = visitor.new_tab()
    page.goto(portal.console)
    page.evaluate(
        """(link) => new Promise((loaded) => {
          const frame = document.createElement("iframe");
          frame.src = link;
          frame.onload = loaded;
          document.body.append(frame);
        })""",
        link,
    )
    assert page.frames[1].url.startswith("chrome-error:")
    assert any("frame-ancestors" in fault for fault in visitor.faults)
    visitor.faults.clear()


def test_s20_another_site_cannot_send_our_forms(portal, visit, tenant):
    visitor = visit()
    bob = person(tenant)
    page = visitor.open(portal.link("enroll", bob))
    page.get_by_role("link", name="Set up your authenticator").click()
    token = page.locator("input[name=csrf]").first.get_attribute("value")
    address = page.url
    page.goto(portal.console)
    page.evaluate(
        """([address, token]) => {
          const form = document.createElement("form");
          form.method = "post";
          form.action = address;
          form.innerHTML = `<input name="csrf" value="${token}">`;
          document.body.append(form);
          form.submit();
        }""",
        [address, token],
    )
    page.wait_for_url(address)
    assert page.locator("h1").inner_text() in ("Nothing has changed", "This visit has ended")
    assert not portal.stepup.enrollment.get(bob).HasField("pending")


def test_s20_another_site_cannot_open_a_link_for_a_person(portal, visit, tenant):
    """Login CSRF: else a person would set up an authenticator for the attacker's account."""
    visitor = visit()
    link = portal.link("enroll", person(tenant, "mallory"))
    page = visitor.new_tab()
    page.goto(portal.console)
    page.evaluate(
        """(link) => {
          const form = document.createElement("form");
          form.method = "post";
          form.action = link;
          document.body.append(form);
          form.submit();
        }""",
        link,
    )
    page.wait_for_url(link)
    assert visitor.cookies() == []


def test_s21_the_console_learns_no_address_of_ours(portal, visit, tenant):
    page = visit().open(portal.link("account", person(tenant)))
    page.get_by_role("link", name="Back to the console").click()
    assert page.url == portal.return_url
    assert page.evaluate("() => document.referrer") == ""


def test_s20_scripts_cannot_read_the_cookie(portal, visit, tenant):
    visitor = visit()
    page = visitor.open(portal.link("account", person(tenant)))
    [cookie] = visitor.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert page.evaluate("() => document.cookie") == ""
    assert page.evaluate("() => localStorage.length + sessionStorage.length") == 0
