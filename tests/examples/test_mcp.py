"""examples/mcp: an agent's dangerous tool runs once a person has approved it on a page."""

import asyncio

import httpx
import pytest
from mcp import MCPError
from mcp.client import Client
from mcp.types import ElicitResult
from stepup_tests.form_browser import FormBrowser
from stepup_tests.served_app import served_app


@pytest.fixture
def backend(example, pages):
    assert pages
    with served_app(example("portal/backend").app) as origin:
        yield origin


@pytest.fixture
async def tools(example, backend, monkeypatch):
    monkeypatch.setenv("BACKEND", backend)
    module = example("mcp/server")
    yield module
    await module.stepup.close()


class Person:
    """Bob at the program of the agent: it shows him an address, and he answers on the page."""

    def __init__(self, backend, form, **fields):
        self._backend, self._form, self._fields = backend, form, fields
        self.shown = []

    async def __call__(self, _context, params):
        self.shown.append(params.url)
        asyncio.get_running_loop().run_in_executor(None, self._answer, params.url)
        return ElicitResult(action="accept")

    def _answer(self, url):
        with httpx.Client(follow_redirects=True, timeout=30) as client:
            browser = FormBrowser(client)
            browser.open(f"{self._backend}/sign-in/bob?then={httpx.URL(url).path}")
            browser.send("")
            browser.send(self._form, **self._fields)


async def call(tools, person):
    async with Client(tools.server, elicitation_callback=person) as client:
        result = await client.call_tool("run_osquery", {"host": "host-7"})
    return result.content[0].text


async def test_the_tool_runs_once_the_person_has_approved(tools, backend, bob):
    person = Person(backend, "approve", code=bob.code())
    assert await call(tools, person) == "osquery ran on host-7"
    assert tools.runs == ["host-7"]
    [url] = person.shown
    assert url.startswith(f"{backend}/approve/")


@pytest.mark.usefixtures("bob")
async def test_the_tool_does_not_run_if_the_person_declines(tools, backend):
    assert "did not approve" in await call(tools, Person(backend, "decline"))
    assert tools.runs == []


@pytest.mark.usefixtures("bob")
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_the_tool_does_not_run_if_the_page_is_not_opened(tools, action):
    async def refuse(_context, _params):
        return ElicitResult(action=action)

    assert "did not open the page" in await call(tools, refuse)
    assert tools.runs == []


@pytest.mark.usefixtures("bob")
async def test_the_tool_does_not_run_for_a_program_that_shows_no_pages(tools):
    async with Client(tools.server) as client:
        with pytest.raises(MCPError, match="not supported"):
            await client.call_tool("run_osquery", {"host": "host-7"})
    assert tools.runs == []


async def test_an_approval_lets_the_tool_run_once_and_on_its_host_only(tools, backend, bob):
    person = Person(backend, "approve", code=bob.code())
    async with Client(tools.server, elicitation_callback=person) as client:

        async def answered(host, **fields):
            return await client.session.call_tool(
                "run_osquery", {"host": host}, allow_input_required=True, **fields
            )

        asked = await answered("host-7")
        accepted = await person(None, asked.input_requests["approval"].params)
        fields = {
            "request_state": asked.request_state,
            "input_responses": {"approval": accepted},
        }
        assert not (await answered("host-7", **fields)).is_error
        assert (await answered("host-7", **fields)).is_error
        with pytest.raises(MCPError):
            await answered("host-8", **fields)  # the library seals the state for its arguments
    assert tools.runs == ["host-7"]
