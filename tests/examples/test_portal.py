"""examples/portal: one RPC and a redirect open each page, and the person comes back."""

import httpx
import pytest
from stepup_tests.form_browser import FormBrowser
from stepup_tests.served_app import served_app


@pytest.fixture
def backend(example, pages, monkeypatch):
    assert pages
    module = example("portal/backend")
    with served_app(module.app) as origin:
        monkeypatch.setattr(module, "ORIGIN", origin)
        yield origin


@pytest.fixture
def browser():
    with httpx.Client(follow_redirects=True, timeout=30) as client:
        yield FormBrowser(client)


def test_a_person_gives_a_code_on_the_page_and_the_shell_starts(backend, browser, bob):
    browser.open(f"{backend}/sign-in/bob")
    browser.open(f"{backend}/hosts/host-7/shell")
    browser.send("")  # starts a shell
    browser.send("")  # opens the link
    stolen = browser.client.cookies["console"]
    browser.send("code", code=bob.code())
    assert str(browser.page.url) == f"{backend}/hosts/host-7/shell"
    browser.send("")
    assert browser.page.text == "host-7/1"
    shell = httpx.post(f"{backend}/hosts/host-7/shell", headers={"Cookie": f"console={stolen}"})
    assert shell.status_code == 401  # a copy of the earlier cookie does not share the elevation


@pytest.mark.usefixtures("bob")
def test_a_person_who_comes_back_without_a_code_starts_no_shell(backend, browser):
    browser.open(f"{backend}/sign-in/bob")
    browser.open(f"{backend}/hosts/host-7/shell")
    browser.send("")
    browser.open(f"{backend}/hosts/host-7/shell")
    browser.send("")
    assert "/open/" in str(browser.page.url)


@pytest.mark.usefixtures("tenant")
def test_a_person_without_an_authenticator_comes_to_the_wizard(backend, browser):
    browser.open(f"{backend}/sign-in/carol")
    browser.open(f"{backend}/hosts/host-7/shell")
    browser.send("")
    browser.send("")
    assert browser.title.startswith("Enable MFA")


@pytest.mark.parametrize(
    ("page", "user", "title"),
    [("account", "bob", "Your MFA"), ("policy", "ada", "MFA for your business")],
)
@pytest.mark.usefixtures("bob")
def test_settings_are_pages(backend, browser, page, user, title):
    browser.open(f"{backend}/sign-in/{user}")
    browser.open(f"{backend}/mfa/{page}")
    browser.send("")
    assert browser.page.status_code == 200
    assert browser.title.startswith(title)


@pytest.mark.usefixtures("tenant")
def test_a_page_for_administrators_opens_for_nobody_else(backend, browser):
    browser.open(f"{backend}/sign-in/bob")
    browser.open(f"{backend}/mfa/policy")
    assert browser.page.status_code == 500  # the backend offers it to administrators only


def test_nobody_is_signed_in_without_the_console(backend, browser):
    browser.open(f"{backend}/mfa/account")
    assert browser.page.status_code == 401


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_a_sign_in_leads_to_no_other_site(backend, browser, target):
    browser.client.follow_redirects = False
    browser.open(f"{backend}/sign-in/bob?then={target}")
    assert browser.page.headers["location"] == "/"
