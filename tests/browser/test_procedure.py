"""The whole procedure of the console, on `make console`: nothing but clicks and codes."""

import pytest
from playwright.sync_api import expect
from stepup_tests.browser.states import heading
from stepup_tests.browser.visitor import WIDE, visiting
from stepup_tests.e2e.console import demo_console
from stepup_tests.e2e.processes import eventually, temporary_directory

pytestmark = pytest.mark.slow


@pytest.fixture
def console(tmp_path):
    with temporary_directory() as scratch, demo_console(tmp_path, scratch) as console:
        yield console


class Phone:
    """The page with the codes of an authenticator app."""

    def __init__(self, tab, address):
        self._tab = tab
        self._address = address

    def add(self, name, key):
        self._tab.goto(self._address)
        self._tab.get_by_label("Name").fill(name)
        self._tab.get_by_label("Key from the wizard").fill(key)
        self._tab.get_by_role("button", name="Add").click()
        return name

    def code(self, name):
        def shown():
            self._tab.goto(self._address)
            text = self._tab.locator("p", has_text=name).locator("output").inner_text()
            return text if text.isdecimal() else None

        return eventually(shown, "the next code is shown")


def test_everybody_does_the_whole_procedure(browser, console):
    with visiting(browser, width=WIDE, permissions=["clipboard-read"]) as visitor:
        phone = Phone(visitor.new_tab(), console.links["phone"])
        page = visitor.new_tab()

        def follow(link):
            page.goto(console.address)
            page.get_by_role("link", name=link).click()
            page.get_by_role("button", name="Continue").click()

        # 1. A Master Administrator switches MFA on, selects operations, saves.
        follow("Ada, the administrator")
        page.get_by_role("link", name="Enable MFA for your business").click()
        page.get_by_role("switch", name="MFA for your business").check()
        page.get_by_label("Start Remote Shell Session task", exact=True).check()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("status")).to_have_text("Saved.")

        # 2. to 6. Enable MFA, an app, the key, a code, the reset code.
        follow("Bob sets up")
        assert heading(page) == "Enable MFA"
        page.get_by_role("link", name="Set up your authenticator").click()
        page.get_by_role("button", name="Next").click()
        page.get_by_text("My device cannot scan").click()
        bob = phone.add("Bob", page.locator("details code").inner_text())
        page.get_by_label("Code from your authenticator app").fill(phone.code(bob))
        page.get_by_role("button", name="Next").click()
        page.get_by_label("I have stored my reset code in a safe location").check()
        page.get_by_role("button", name="Finish").click()
        page.get_by_role("button", name="Continue to the console").click()
        expect(page.locator("main")).to_contain_text("You are back", use_inner_text=True)

        # An agent asks, a person approves by name.
        follow("Carol approves")
        page.get_by_label("Code from your authenticator app").fill(phone.code("Carol"))
        page.get_by_role("button", name="Approve").click()
        answer = "Carol's challenge is APPROVED"
        expect(page.locator("main")).to_contain_text(answer, use_inner_text=True)

        # It is all on record.
        follow("Ada reads the audit events")
        expect(page.locator("article").nth(3)).to_be_visible()
