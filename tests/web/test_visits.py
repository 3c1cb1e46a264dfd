from stepup_tests.web import ENDED, UNAVAILABLE, portal


async def test_a_link_opens_a_visit_once():
    async with portal() as (core, browser):
        page = await browser.open()
        assert page.status == 404  # no page is there yet
        assert "Back to the console" in page.text
        browser.client.cookies.clear()
        again = await browser.client.post(f"/open/{core.token}")
        assert again.status_code == 401


async def test_an_ended_session_ends_the_visit():
    async with portal() as (core, browser):
        await browser.open()
        core.answer("PortalService/GetPortalSession", ENDED)
        page = await browser.get()
        assert page.status == 401
        assert "This visit has ended" in page.text


async def test_a_lost_core_is_a_page_to_try_again():
    async with portal() as (core, browser):
        await browser.open()
        core.answer("PortalService/GetPortalSession", UNAVAILABLE)
        page = await browser.get()
        assert page.status == 503
        assert page.response.headers["retry-after"]
