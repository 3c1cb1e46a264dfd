"""The links that open visits, and the cookies of visits (S20, S21)."""

import re

import pytest
from stepup_tests.web import ENDED, ORIGIN, UNAVAILABLE, portal

from stepup.v1 import portal_service_pb2 as pb
from stepup.web.visits import csrf_token_of, visit_id_of

pytestmark = pytest.mark.usefixtures("tested")
REDEEM = "PortalService/RedeemPortalSession"
SECURE = "https://mfa.example.com"


async def test_s21_who_gets_a_link_uses_nothing_up():
    async with portal() as (core, browser):
        for method in ("GET", "HEAD", "OPTIONS", "PUT"):
            for _ in range(3):
                await browser.client.request(method, f"/open/{core.token}")
        assert core.calls == []
        assert (await browser.open()).status == 200  # the link still opens


async def test_s21_the_page_of_a_link_says_nothing_of_the_link():
    async with portal() as (core, browser):
        real = await browser.client.get(f"/open/{core.token}")
        other = await browser.client.get("/open/no-such-token")
        assert (real.status_code, real.text) == (other.status_code, other.text)
        assert core.token not in real.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null", "Sec-Fetch-Site": "none"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN + "0", "Sec-Fetch-Site": "same-origin"},
        {},
    ],
)
async def test_s20_another_site_opens_no_visit(headers):
    async with portal() as (core, browser):
        browser.client.headers.pop("Origin")
        browser.client.headers.pop("Sec-Fetch-Site")
        answer = await browser.client.post(f"/open/{core.token}", headers=headers)
        assert answer.status_code == 403
        assert core.calls == []
        assert not browser.client.cookies


async def test_s20_a_browser_that_hides_the_origin_opens_a_visit():
    async with portal() as (_core, browser):
        browser.client.headers["Origin"] = "null"  # what no-referrer does
        assert (await browser.open()).status == 200


async def test_s20_the_cookie_holds_the_new_session_and_no_script_reads_it():
    async with portal(public_url=SECURE) as (core, browser):
        answer = await browser.client.post(f"/open/{core.token}")
        [cookie] = answer.headers.get_list("set-cookie")
        name, *attributes = cookie.split("; ")
        assert name == f"__Host-stepup-{visit_id_of(core.token)}={core.session_id}"
        ages = [part for part in attributes if part.startswith("Max-Age=")]
        assert {*attributes} - {*ages} == {"Path=/", "Secure", "HttpOnly", "SameSite=lax"}
        assert 3500 < int(ages[0].removeprefix("Max-Age=")) <= 3600
        assert answer.headers["location"] == f"/v/{visit_id_of(core.token)}/"
        assert core.token not in str(answer.headers)


async def test_s20_a_plaintext_trial_has_a_cookie_without_the_prefix():
    async with portal() as (core, browser):
        answer = await browser.client.post(f"/open/{core.token}")
        assert re.match("stepup-", answer.headers["set-cookie"])
        assert "Secure" not in answer.headers["set-cookie"]


async def test_s20_a_link_opens_once():
    async with portal() as (core, browser):
        await browser.open()
        # The back button and a second click lead to the visit.
        assert (await browser.get(f"/open/{core.token}")).location == browser.visit
        assert (await browser.open()).status == 200
        # Another browser gets nothing.
        browser.client.cookies.clear()
        page = await browser.open()
        assert page.status == 401
        assert "This visit has ended" in page.text
        assert len(core.redeemed) == 1


async def test_s20_a_planted_cookie_does_not_choose_the_session():
    async with portal() as (core, browser):
        attackers = pb.PortalSession()
        attackers.CopyFrom(core.session)
        attackers.account_name = "attacker"
        core.sessions["a" * 43] = ("attackers-session", attackers)
        planted = f"stepup-{visit_id_of(core.token)}"
        browser.client.cookies.set(planted, "attackers-session", domain="127.0.0.1", path="/")
        page = await browser.open()
        assert "bob@acme.example" in page.text
        assert "attacker" not in page.text


async def test_s20_two_visits_in_one_browser_mix_nothing_up(tested):
    async with portal() as (core, browser):
        alice = pb.PortalSession()
        alice.CopyFrom(core.session)
        alice.account_name = "alice"
        core.sessions["a" * 43] = ("session-of-alice", alice)
        bobs = browser.visit = (await browser.open()) and browser.visit
        await browser.open("a" * 43)
        alices = browser.visit
        assert bobs != alices
        assert "bob@acme.example" in (await browser.get(bobs)).text
        page = await browser.get(alices)
        assert "alice" in page.text
        assert "bob@acme.example" not in page.text
        # The token of a form of one is of no use in the other.
        refused = await browser.post(bobs + "save", csrf=page.csrf)
        assert refused.status == 403
        assert tested.accepted == []
        # The end of one is not that of the other.
        await browser.post(
            alices + "leave", csrf=csrf_token_of("session-of-alice", alices.split("/")[2])
        )
        assert (await browser.get(alices)).status == 401
        assert (await browser.get(bobs)).status == 200


async def test_the_device_of_the_browser_is_on_record():
    async with portal() as (core, browser):
        agent = "Browser\x851 " + "x" * 600
        await browser.client.post(
            f"/open/{core.token}", headers={b"User-Agent": agent.encode("latin-1")}
        )
        [request] = core.calls_of(REDEEM)
        assert request.client.address == "127.0.0.1"
        assert request.client.user_agent == ("Browser1 " + "x" * 600)[:511]


async def test_s20_an_ended_session_ends_the_visit():
    async with portal() as (core, browser):
        await browser.open()
        core.answer("PortalService/GetPortalSession", ENDED)
        page = await browser.get()
        assert page.status == 401
        assert "This visit has ended" in page.text
        assert not browser.client.cookies


async def test_a_lost_core_is_a_page_to_try_again():
    async with portal() as (core, browser):
        await browser.open()
        core.answer("PortalService/GetPortalSession", UNAVAILABLE)
        page = await browser.get("save?x=1")
        assert (page.status, page.response.headers["retry-after"]) == (503, "5")
        assert f'href="{browser.visit}"' in page.html
        assert browser.client.cookies


async def test_leaving_ends_the_session_and_returns_to_the_console():
    async with portal() as (core, browser):
        await browser.open()
        answer = await browser.post("leave")
        assert (answer.status, answer.location) == (303, core.session.return_url)
        assert core.calls_of("PortalService/EndPortalSession")
        assert not browser.client.cookies


async def test_probes_say_whether_the_core_serves():
    async with portal() as (core, browser):
        for is_ready, status in ((True, 200), (False, 503)):
            core.is_ready = is_ready
            assert (await browser.client.get("/healthz")).status_code == 200
            assert (await browser.client.get("/readyz")).status_code == status


@pytest.mark.parametrize("before", [b"\xa0", b"\x85", b"\x0b"])
async def test_s20_a_cookie_without_the_prefix_is_not_one_with_it(before):
    # Browsers let other sites of the domain set such a name: it does not begin with `__Host-`.
    async with portal(public_url=SECURE) as (core, browser):
        name = before + f"__Host-stepup-{visit_id_of(core.token)}".encode()
        visit = f"/v/{visit_id_of(core.token)}/"
        cookie = {b"Cookie": name + b"=" + core.session_id.encode()}
        assert (await browser.client.get(visit, headers=cookie)).status_code == 401
        assert core.calls == []


async def test_s20_of_two_cookies_with_one_name_none_counts():
    async with portal() as (core, browser):
        name = f"stepup-{visit_id_of(core.token)}"
        cookie = {"Cookie": f"{name}={core.session_id}; {name}={core.session_id}"}
        visit = f"/v/{visit_id_of(core.token)}/"
        assert (await browser.client.get(visit, headers=cookie)).status_code == 401
        assert core.calls == []


@pytest.mark.parametrize("value", [b"\xe9", "é".encode(), b"a\x7f", b'"a"', b"a" * 129, b""])
async def test_s20_a_cookie_that_is_no_session_id_does_not_reach_the_core(value):
    async with portal() as (core, browser):
        name = f"stepup-{visit_id_of(core.token)}".encode()
        visit = f"/v/{visit_id_of(core.token)}/"
        answer = await browser.client.get(visit, headers={b"Cookie": name + b"=" + value})
        assert answer.status_code == 401
        assert core.calls == []


@pytest.mark.parametrize("path", ["/open/{}/", "/open/{}/x", "/v/a%3Bb/", "/v/%C3%A9/", "/v/a"])
async def test_s21_no_other_path_leads_to_a_link_or_a_visit(path):
    async with portal() as (core, browser):
        headers = {"Host": "evil.example"}
        answer = await browser.client.get(path.format(core.token), headers=headers)
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "set-cookie" not in answer.headers
