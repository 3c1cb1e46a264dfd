"""What holds for every answer: headers, forms, texts of people, log lines (S11, S20, S21)."""

import re

import grpc
import pytest
from stepup_tests.web import ORIGIN, Refused, portal
from structlog.testing import capture_logs

from stepup.web.forms import MAX_FORM_BYTES
from stepup.web.origins import origin_of

pytestmark = pytest.mark.usefixtures("tested")
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
    " form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'"
)
FIXED = {
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NASTY = "\"'><script>alert(1)</script>{{ 7*7 }}<b>%(x)s %s&\u202e\u05d0"


async def test_s21_every_answer_has_the_headers():
    async with portal(public_url="https://mfa.example.com") as (_, browser):
        client = browser.client
        answers = [
            (200, await client.get("/open/x")),
            (200, await client.head("/open/x")),
            (303, await client.post("/open/x")),
            (403, await client.post("/open/x", headers={"Origin": "https://evil.example"})),
            (405, await client.put("/open/x")),
            (401, await client.get(f"/v/{'x' * 22}/")),
            (404, await client.get("/v/x%3B%0D%0A/")),
            (404, await client.get("/nothing")),
            (404, await client.get("/static/portal.css")),
            (200, await client.get("/healthz")),
        ]
        await browser.open()
        visit = browser.visit
        answers += [
            (200, await client.get(visit)),
            (200, await client.head(visit)),
            (200, await client.get(visit + "download")),
            (404, await client.get(visit + "nothing")),
            (500, await client.get(visit + "fail")),
            (403, await client.post(visit + "save", data={"csrf": "wrong"})),
            (400, await client.post(visit + "save", content=b"x")),
            (303, (await browser.post("save")).response),
        ]
        for status, answer in answers:
            assert answer.status_code == status, answer.request.url
            headers = answer.headers
            assert {name: headers[name] for name in FIXED} == FIXED
            assert headers["cache-control"] == "no-store"
            assert headers["strict-transport-security"] == "max-age=31536000"
            has_visit = status in {200, 500, 303} and str(answer.url.path).startswith(visit)
            expected = POLICY.format(" https://console.example")
            assert headers["content-security-policy"] in {POLICY.format(""), expected}
            if has_visit:
                assert headers["content-security-policy"] == expected


async def test_s21_static_files_have_the_headers_and_may_be_kept():
    async with portal() as (_, browser):
        page = await browser.get("/open/x")
        [address] = [part for part in page.html.split('"') if "portal" in part and ".css" in part]
        answer = await browser.client.get(address)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-security-policy"] == POLICY.format("")
        assert {name: answer.headers[name] for name in FIXED} == FIXED


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://console.example/x?y", "https://console.example"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://a.example; script-src *", "'none'"),
        ("https://a.example 'unsafe-inline'/", "'none'"),
        ("https://user@a.example/", "'none'"),
        ("javascript:alert(1)", "'none'"),
        ("https://a.example\\@b.example/", "'none'"),
    ],
)
def test_s21_a_return_url_adds_nothing_but_its_origin_to_the_policy(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize("csrf", ["", "x", "é", "s" * 43])
async def test_s20_a_form_without_its_token_changes_nothing(tested, csrf):
    async with portal() as (core, browser):
        await browser.open()
        before = len(core.calls)
        page = await browser.post("save", csrf=csrf)
        assert page.status == 403
        assert "Nothing has changed" in page.text
        assert len(core.calls) == before
        assert tested.accepted == []


async def test_s20_a_form_of_another_site_changes_nothing(tested):
    async with portal() as (_, browser):
        await browser.open()
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            browser.client.headers.update({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"})
            browser.client.headers.update(headers)
            assert (await browser.post("save")).status == 403
        assert tested.accepted == []


async def test_s20_a_form_is_accepted_by_post_only(tested):
    async with portal() as (_, browser):
        page = await browser.open()
        assert page.csrf
        assert (await browser.get(f"save?csrf={page.csrf}")).status == 404
        assert tested.accepted == []
        saved = await browser.post("save", csrf=page.csrf, code=" 123-4 56\u3000")
        assert (await browser.follow(saved)).text.count("Saved.") == 1
        [(_, form)] = tested.accepted
        assert form.code() == "123456"


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"a" * (MAX_FORM_BYTES + 1)},
        {"content": b"a=%ff"},
        {"content": b"a=\xff"},
        {"content": b"&".join([b"a=b"] * 1_001)},
        {"json": {"a": "b"}},
        {"files": {"a": b"b"}},
    ],
)
async def test_a_body_that_is_not_a_form_is_refused(tested, sent):
    async with portal() as (_, browser):
        await browser.open()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if "content" in sent else {}
        answer = await browser.client.post(browser.visit + "save", headers=headers, **sent)
        assert answer.status_code == 400
        assert tested.accepted == []


async def test_s21_no_text_of_a_person_becomes_markup():
    async with portal() as (core, browser):
        for name in ("account_name", "tenant_name", "user_id", "opened_by", "locale", "time_zone"):
            setattr(core.session, name, NASTY)
        await browser.open()
        page = (await browser.client.get(browser.visit, params={"text": NASTY})).text
        assert page.count("alert(1)") > 30
        assert "<script>a" not in page
        assert "<b>" not in page
        # In an attribute no quotation mark ends the value.
        assert not re.search('="[^"]*\'><', page)
        # The direction of a name ends with it.
        shown = page.split("<bdi>")
        assert len(shown) > 4
        assert "\u202e" in shown[1].partition("</bdi>")[0]
        for path in ("nothing", "fail"):
            assert "<script>a" not in (await browser.get(path)).html


async def test_s21_an_address_says_only_what_the_portal_knows():
    async with portal() as (_, browser):
        await browser.open()
        page = await browser.client.get(
            browser.visit, params={"done": "Call +1 555", "return_url": "https://evil.example"}
        )
        assert "555" not in page.text
        assert "evil" not in page.text


async def test_s21_pages_have_no_inline_style_or_script():
    async with portal() as (core, browser):
        for html in ((await browser.open()).html, (await browser.get(f"/open/{core.token}x")).html):
            assert " style=" not in html
            assert "<style" not in html
            assert not re.search(r"<[^>]* on\w+=", html)
            assert html.count("<script") == html.count("<script src=") == 1


async def test_what_the_core_refuses_is_a_page_without_its_words():
    async with portal() as (core, browser):
        await browser.open()
        for refused, status in (
            (Refused(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_PERMITTED"), 403),
            (Refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_REQUIRED"), 403),
            (Refused(grpc.StatusCode.INTERNAL, "secret words"), 500),
        ):
            core.answer("PortalService/GetPortalSession", refused)
            page = await browser.get()
            assert page.status == status
            assert refused.reason not in page.text


@pytest.mark.usefixtures("tested")
async def test_s21_head_runs_no_page():
    async with portal() as (_, browser):
        await browser.open()
        answer = await browser.client.head(browser.visit + "fail")
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await browser.client.head(browser.visit + "nothing")).status_code == 404


async def test_s21_no_log_line_has_a_secret():
    with capture_logs() as lines:
        async with portal() as (core, browser):
            await browser.get(f"/open/{core.token}")
            page = await browser.open()
            await browser.get("fail")
            await browser.get("nothing-of-the-kind")
            await browser.get("/nothing-of-the-kind")
            await browser.post("save", code="123456", csrf=page.csrf)
            await browser.client.request("nothing-of-the-kind", "/")
    assert [line["route"] for line in lines if line["event"] == "request"] == [
        *("/open/{token}", "/open/{token}", "account/", "account/fail"),
        *("none", "none", "account/save", "none"),
    ]
    written = str(lines)
    secrets = (core.token, core.session_id, page.csrf, "123456", "nothing-of", "bob", browser.visit)
    for secret in secrets:
        assert secret not in written
