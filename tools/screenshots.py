"""Take the pictures of the portal that the documents show: `make screenshots`.

Three phones stand side by side in the picture of the README. Each picture is a palette of few
colours, so that all of them together stay small.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser
from stepup_tests.browser import states
from stepup_tests.browser.chromium import chromium
from stepup_tests.browser.portal import Portal, serving_portal
from stepup_tests.browser.visitor import visiting

DIRECTORY = Path("docs/screens")
_PHONE, _DESK = 390, 900
_HEIGHT = 780
_GAP = 24
_BACKGROUND = "#dfe3ea"
_COLOURS = 64


def taken(browser: Browser, portal: Portal, state: str, **options) -> Image.Image:
    """The picture of a page, as high as a window at most."""
    width = options.setdefault("width", _PHONE)
    with visiting(browser, portal.origin, portal.console, **options) as visitor:
        page = states.STATES[state](portal, visitor, f"picture-{state}-{options.get('language')}")
        page.mouse.move(0, 0)
        page.set_viewport_size({"width": width, "height": _HEIGHT})
        return Image.open(io.BytesIO(page.screenshot()))


def side_by_side(*pictures: Image.Image) -> Image.Image:
    """Pictures in a row, with a gap around each."""
    width = sum(picture.width + _GAP for picture in pictures) + _GAP
    together = Image.new("RGB", (width, _HEIGHT + 2 * _GAP), _BACKGROUND)
    left = _GAP
    for picture in pictures:
        together.paste(picture, (left, _GAP))
        left += picture.width + _GAP
    return together


def main() -> None:
    """Write all pictures."""
    DIRECTORY.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        serving_portal(Path(directory)) as portal,
        chromium() as browser,
    ):
        pictures = {
            "portal": side_by_side(
                taken(browser, portal, "policy_panel"),
                taken(browser, portal, "wizard_scan"),
                taken(browser, portal, "challenge"),
            ),
            "challenge-dark-ja": taken(browser, portal, "challenge", dark=True, language="ja"),
        }
    for name, picture in pictures.items():
        few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        few.save(DIRECTORY / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
