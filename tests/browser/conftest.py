"""The portal in a real browser; the tests of a worker share a browser, a core and a web process."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from playwright.sync_api import Browser
from stepup_tests.browser.chromium import EXECUTABLE, chromium
from stepup_tests.browser.portal import Portal, serving_portal
from stepup_tests.browser.visitor import Visitor, visiting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if EXECUTABLE.exists():
        return
    for item in items:
        if item.path.is_relative_to(EXECUTABLE.parents[1] / "tests" / "browser"):
            item.add_marker(pytest.mark.skip(reason="NO BROWSER: make .browser/stamp"))


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """The browser, and the event loop of playwright, which this thread may see within a test only:
    tests that are not ours start loops of their own."""
    with chromium() as browser:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # noqa: SLF001  # documented for implementers of loops
        yield browser, loop
        asyncio._set_running_loop(loop)  # noqa: SLF001


@pytest.fixture
def browser(shared_browser: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    browser, loop = shared_browser
    asyncio._set_running_loop(loop)  # noqa: SLF001
    yield browser
    asyncio._set_running_loop(None)  # noqa: SLF001


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """The portal of all tests that leave it running; each has a business of its own."""
    with serving_portal(tmp_path_factory.mktemp("portal")) as portal:
        yield portal


@pytest.fixture
def visit(browser: Browser, portal: Portal) -> Iterator[Callable[..., Visitor]]:
    """Opens a browser of a person; none may have seen a fault of a page."""
    visitors = []
    with ExitStack() as stack:

        def visit(**options) -> Visitor:
            visitors.append(
                stack.enter_context(visiting(browser, portal.origin, portal.console, **options))
            )
            return visitors[-1]

        yield visit
    assert [fault for visitor in visitors for fault in visitor.faults] == []


@pytest.fixture
def tenant() -> str:
    """A business that nobody has seen before."""
    return f"tenant-{uuid4().hex[:12]}"
