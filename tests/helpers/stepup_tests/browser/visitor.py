"""A person at a browser, and what the browser complained about meanwhile."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Request, Response

WIDE, NARROW = 1280, 320
"""The widths that pages are made for, in CSS pixels: a desk's, and a small phone's."""
_HEIGHT = 800
_PATIENCE_MILLISECONDS = 30_000
_STATUS_LINE = "Failed to load resource: the server responded with a status of "


class Visitor:
    """One browser of one person: its cookies are its own.

    `faults` has what no page may do: an error on the browser's console (a violation of the content
    security policy is one), an exception, a request to a strange origin, a part of a page that
    fails.
    """

    def __init__(self, context: BrowserContext, origins: Sequence[str]) -> None:
        self.faults: list[str] = []
        self._context = context
        self._origins = origins
        context.set_default_timeout(_PATIENCE_MILLISECONDS)
        context.on("request", self._note_request)
        context.on("response", self._note_response)
        context.on("weberror", lambda error: self.faults.append(f"exception: {error.error}"))
        context.on("console", self._note_message)

    def new_tab(self) -> Page:
        """Open a tab."""
        return self._context.new_page()

    def open(self, link: str) -> Page:
        """Follow the link of a console in a new tab, and press "Continue"."""
        page = self.new_tab()
        page.goto(link)
        page.locator("button.main").click()
        page.wait_for_url("**/v/**")
        return page

    def cookies(self) -> list[dict]:
        """The cookies that the browser has."""
        return self._context.cookies()

    def forget_cookies(self) -> None:
        """Lose all cookies, as a browser does that the person has cleared."""
        self._context.clear_cookies()

    def _note_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if f"{address.scheme}://{address.netloc}" not in self._origins and address.scheme not in (
            *("about", "blob", "data"),
        ):
            self.faults.append(f"a request to another origin: {request.url}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.faults.append(f"{response.status} for a part of a page: {response.url}")

    def _note_message(self, message) -> None:
        # The console has a line for a page with status 422, too.
        if message.type in ("error", "warning") and not message.text.startswith(_STATUS_LINE):
            self.faults.append(f"console: {message.text}")


@contextmanager
def visiting(
    browser: Browser,
    *origins: str,
    width: int = NARROW,
    height: int = _HEIGHT,
    language: str = "en",
    scripts: bool = True,
    dark: bool = False,
    **options,
) -> Iterator[Visitor]:
    """A person with a browser of their own.

    Args:
        browser: the program that runs it.
        origins: those of the portal and the console; a request to any other one is a fault.
        width: of the window, in CSS pixels.
        height: likewise.
        language: a BCP 47 tag.
        scripts: whether the browser runs scripts of pages.
        dark: whether the person prefers dark pages.
        options: further options of playwright.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale=language,
        java_script_enabled=scripts,
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        **options,
    )
    try:
        yield Visitor(context, origins)
    finally:
        context.close()
