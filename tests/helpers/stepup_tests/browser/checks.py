"""What every page of the portal has to pass, whatever it shows."""

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Locator, Page, expect

# Also the rules that axe leaves out by default: targets of 24 px are WCAG 2.2.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN_AXE = """
async (tags) => {
  const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
  return found.violations.map((violation) =>
    `${violation.id}: ${violation.help}: ${violation.nodes.map((node) => node.html).join(" ")}`);
}
"""

# What a person cannot read: text outside the window, or cut by what is around it. Text that is for
# screen readers only lies in a box of a pixel.
_CLIPPED = """
() => {
  const faults = [];
  const told = (text, why) => faults.push(`${why}: ${text.textContent.trim().slice(0, 60)}`);
  const root = document.documentElement;
  const width = root.clientWidth;
  if (root.scrollWidth > width) faults.push(`the page is ${root.scrollWidth} px wide, of ${width}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = texts.nextNode());) {
    const parent = text.parentElement;
    if (!text.textContent.trim() || parent.closest("script, style, noscript, option, title")) continue;
    if (!parent.checkVisibility({ visibilityProperty: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0.5);
    const around = [];
    for (let element = parent; element; element = element.parentElement) around.push(element);
    if (around.some((element) => element.clientWidth === 1 && element.clientHeight === 1)) continue;
    for (const box of boxes) {
      if (box.left < -0.5 || box.right > width + 0.5) told(text, "outside of the window");
      for (const element of around) {
        if (element === root || element === document.body) continue;
        const outer = element.getBoundingClientRect();
        const style = getComputedStyle(element);
        const control = element.matches("button, summary, [role=button], [role=tab]");
        const wide = box.left < outer.left - 0.5 || box.right > outer.right + 0.5;
        const high = box.top < outer.top - 3 || box.bottom > outer.bottom + 3;
        if (wide && (control || style.overflowX !== "visible")) told(text, "cut at its side");
        if (high && (control || style.overflowY === "hidden" || style.overflowY === "clip")) {
          told(text, "cut above or below");
        }
      }
    }
  }
  for (const element of document.querySelectorAll("select, button, input[type=submit]")) {
    if (element.checkVisibility() && element.scrollWidth > element.clientWidth + 1) {
      told(element, "wider than its control");
    }
  }
  for (const element of document.querySelectorAll("body *")) {
    const { overflowX } = getComputedStyle(element);
    const scrolls = overflowX === "auto" || overflowX === "scroll";
    if (scrolls && element.checkVisibility() && element.scrollWidth > element.clientWidth + 1) {
      told(element, "scrolls sideways");
    }
  }
  return [...new Set(faults)];
}
"""
# A font without a character draws the same box for each that it lacks.
_IS_DRAWN = """
([first, second]) => {
  const picture = (character) => {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    context.font = `40px ${getComputedStyle(document.body).fontFamily}`;
    context.fillText(character, 0, 40);
    return canvas.toDataURL();
  };
  return picture(first) !== picture(second);
}
"""
_FOCUS = """
() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  return {
    isAnywhere: element !== document.body && element !== document.documentElement,
    isVisible: (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0)
      || style.boxShadow !== "none",
    what: element.outerHTML.slice(0, 120),
  };
}
"""
_CONTROLS = 'a[href], button, input:not([type="hidden"]), select, textarea, summary'
_PATIENCE_OF_KEYS = 150


def assert_accessible(page: Page) -> None:
    """Demand that axe finds no violation: WCAG 2.2 AA, as far as a program can judge.

    axe waits for timers, so the browser has to run scripts.
    """
    page.evaluate(AXE_SCRIPT)
    assert page.evaluate(_RUN_AXE, _TAGS) == []


def assert_nothing_is_clipped(page: Page) -> None:
    """Demand that all text can be read without scrolling sideways, in the fonts of its language."""
    assert page.evaluate(_IS_DRAWN, ["日", "語"]), "no font has Japanese: make .browser/stamp"
    assert page.evaluate(_CLIPPED) == []


def assert_in_language(page: Page, language: str) -> None:
    """Demand that a page says which language it is in."""
    expect(page.locator("html")).to_have_attribute("lang", language)


def assert_well_formed(page: Page) -> None:
    """Demand a title, one heading of the first level, and a landmark for the content."""
    assert page.title().strip()
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("main")).to_have_count(1)


def assert_keys_reach_everything(page: Page) -> None:
    """Demand that Tab comes to each control in turn, and shows where it is.

    Radio buttons of one group are one stop.
    """
    for _ in walked(page):
        pass
    missed = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)]
          .filter((element) => element.checkVisibility({ visibilityProperty: true })
            && !element.disabled && element.tabIndex >= 0 && !element.walked
            && !(element.type === "radio" && [...document.getElementsByName(element.name)].some(
              (other) => other.walked)))
          .map((element) => element.outerHTML.slice(0, 120))""",
        _CONTROLS,
    )
    assert missed == []


def walked(page: Page):
    """Press Tab until the focus has been everywhere, and demand that it is visible; yields each place."""
    page.evaluate("() => { document.activeElement.blur(); window.getSelection().removeAllRanges(); }")
    for _ in range(_PATIENCE_OF_KEYS):
        page.keyboard.press("Tab")
        focus = page.evaluate(_FOCUS)
        if not focus["isAnywhere"]:
            return
        if page.evaluate("() => Boolean(document.activeElement.walked)"):
            return
        page.evaluate("() => { document.activeElement.walked = true; }")
        assert focus["isVisible"], f"nobody sees that this has the focus: {focus['what']}"
        yield focus["what"]
    raise AssertionError(f"Tab is pressed {_PATIENCE_OF_KEYS} times, and comes to no end")


def press_tab_to(page: Page, control: Locator) -> None:
    """Go to a control by the keyboard."""
    for _ in range(_PATIENCE_OF_KEYS):
        if control.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not come to {control}")
