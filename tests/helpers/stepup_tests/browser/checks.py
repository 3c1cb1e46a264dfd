"""What every page of the portal has to pass, whatever it shows."""

from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Locator, Page

# Also the rules that axe leaves out by default: targets of 24 px are WCAG 2.2.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN_AXE = """
async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
  return found.violations.map((violation) =>
    `${violation.id}: ${violation.help}: ${violation.nodes.map((node) => node.html).join(" ")}`);
}
"""
_CHECKS = Path(__file__).with_name("checks.js").read_text()
_MOST_KEYS = 200


def assert_accessible(page: Page) -> None:
    """Demand that axe finds no violation: WCAG 2.2 AA, as far as a program can judge.

    axe waits for timers, so the browser has to run scripts.
    """
    page.evaluate(AXE_SCRIPT)
    _demand_none(page.evaluate(_RUN_AXE, _TAGS))


def assert_nothing_is_clipped(page: Page) -> None:
    """Demand that all text can be read without scrolling sideways, in the fonts of its language."""
    assert _run(page, "draws", "日語認証"), "no font has Japanese: make .browser/stamp"
    _demand_none(_run(page, "clipped"))


def assert_well_formed(page: Page, language: str) -> None:
    """Demand the language, a title, one heading of the first level, and one main part."""
    assert page.locator("html").get_attribute("lang") == language
    assert page.title().strip()
    assert page.locator("h1").count() == page.locator("main").count() == 1


def assert_keys_reach_everything(page: Page) -> None:
    """Demand that Tab comes to each control in turn, and that a person sees where the focus is."""
    _run(page, "beginAnew")
    for _ in range(_MOST_KEYS):
        page.keyboard.press("Tab")
        focus = _run(page, "nextFocus")
        if focus is None:
            break
        assert focus["isVisible"], f"nobody sees that this has the focus: {focus['what']}"
    _demand_none(_run(page, "notWalked"))


def press_tab_to(page: Page, control: Locator) -> None:
    """Go to a control by the keyboard."""
    for _ in range(_MOST_KEYS):
        if control.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not come to {control}")


def _demand_none(faults: list[str]) -> None:
    assert not faults, "\n".join(faults)


def _run(page: Page, function: str, *arguments: Any) -> Any:
    return page.evaluate(f"(given) => {{ {_CHECKS}; return {function}(...given); }}", arguments)
