"""examples/fastapi: a person signs in, enrols, gives a code, starts a shell, and signs out."""

import httpx
import pyotp
import pytest

from stepup.client import ActorContext

PASSWORD = {"user": "alice", "password": "correct horse"}


@pytest.fixture
async def console(example):
    console = example("fastapi/console")
    yield console
    await console.stepup.close()


@pytest.fixture
async def browser(console):
    async with new_browser(console) as browser:
        yield browser


def new_browser(console):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(console.app), base_url="https://console.example"
    )


async def post(browser, path, **body):
    response = await browser.post(path, json=body)
    return response.status_code, response.json() if response.content else None


async def enrol(browser):
    """Go through the wizard; return the authenticator app."""
    _, screen = await post(browser, "/wizard/begin")
    assert screen["qr_svg"].startswith("<svg")
    app = pyotp.TOTP(screen["secret"])
    confirmed = {"reset_code": ""}
    while not confirmed["reset_code"]:  # a code's 30 seconds may end on the way
        code = app.now()
        _, confirmed = await post(browser, "/wizard/confirm", code=f"{code[:3]} {code[3:]}")
    assert await post(browser, "/wizard/complete") == (200, None)
    return app


async def test_a_person_enrols_at_sign_in_and_starts_a_shell(browser):
    assert (await post(browser, "/sign-in", **PASSWORD))[0] == 200
    status, problem = await post(browser, "/sign-in/finish")
    assert (status, problem["type"]) == (401, "urn:stepup:problem:enrollment-required")
    await enrol(browser)
    assert await post(browser, "/sign-in/finish") == (200, None)
    assert await post(browser, "/hosts/host-7/shell") == (200, {"session": "host-7/1"})


@pytest.fixture
async def alice(stepup_server, tenant):
    """Alice, who has an authenticator."""
    actor = ActorContext(tenant_id=tenant, user_id="alice", session_id="alice-before")
    return stepup_server.enrol(actor)


async def test_a_person_with_an_authenticator_gives_a_code_at_sign_in(browser, alice):
    await post(browser, "/sign-in", **PASSWORD)
    status, problem = await post(browser, "/sign-in/finish")
    assert (status, problem["type"]) == (401, "urn:stepup:problem:step-up-required")
    wrong = {"kind": "not_verified", "outcome": "REJECTED"}
    code = alice.code()
    assert await post(browser, "/code", code=f"{(int(code) + 1) % 10**6:06d}") == (200, wrong)
    assert (await post(browser, "/sign-in/finish"))[0] == 401
    assert await post(browser, "/code", code=code) == (200, {"kind": "verified"})
    assert await post(browser, "/sign-in/finish") == (200, None)
    assert (await post(browser, "/hosts/host-7/shell"))[0] == 200


async def test_a_password_alone_replaces_no_authenticator(browser, alice):
    assert alice.code()  # she has one
    await post(browser, "/sign-in", **PASSWORD)
    response = await browser.post("/wizard/begin")
    assert (response.status_code, response.content) == (409, b"")


async def test_a_copied_cookie_does_not_share_the_elevation(console, browser, alice):
    await post(browser, "/sign-in", **PASSWORD)
    async with new_browser(console) as thief:
        thief.cookies.update(browser.cookies)
        await post(browser, "/code", code=alice.code())
        assert (await post(thief, "/sign-in/finish"))[0] == 401
    assert (await post(browser, "/sign-in/finish"))[0] == 200


async def test_a_person_who_signed_out_starts_nothing(browser, alice):
    await post(browser, "/sign-in", **PASSWORD)
    await post(browser, "/code", code=alice.code())
    await post(browser, "/sign-in/finish")
    assert (await post(browser, "/sign-out"))[0] == 200
    assert (await post(browser, "/hosts/host-7/shell"))[0] == 401
    assert (await post(browser, "/sign-out"))[0] == 401


async def test_nobody_signs_in_while_stepup_does_not_answer(example, monkeypatch):
    monkeypatch.setenv("STEPUP_CLIENT_TARGET", "127.0.0.1:1")
    monkeypatch.setenv("STEPUP_CLIENT_TIMEOUT", "0.3")
    console = example("fastapi/console")
    async with console.stepup, new_browser(console) as browser:
        await post(browser, "/sign-in", **PASSWORD)
        assert (await browser.post("/sign-in/finish")).status_code == 503
        assert (await browser.post("/code", json={"code": "123456"})).status_code == 503


async def test_nothing_runs_before_the_sign_in_is_finished(browser):
    assert (await post(browser, "/hosts/host-7/shell"))[0] == 401
    assert (await post(browser, "/sign-in", user="alice", password="wrong"))[0] == 403
    assert (await post(browser, "/sign-in", user="mallory", password=""))[0] == 403
    assert (await post(browser, "/sign-in/finish"))[0] == 401
    await post(browser, "/sign-in", **PASSWORD)
    await enrol(browser)
    assert (await post(browser, "/hosts/host-7/shell"))[0] == 401
