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
from stepup_tests.browser.portal import Portal, administrator, person, serving_portal
from stepup_tests.browser.visitor import visiting

DIRECTORY = Path("docs/screens")
_WIDTH = 390
_HEIGHT = 900
_GAP = 24
_BACKGROUND = "#dfe3ea"
_COLOURS = 64


def taken(browser: Browser, portal: Portal, state: str, **options) -> Image.Image:
    """The picture of a state, on a phone of a business with a few people."""
    tenant = f"{state}-{len(options)}"
    policy = portal.stepup.policy.get(tenant_id=tenant).policy
    policy.issuer = "Acme Security"
    ada = administrator(tenant)
    portal.stepup.policy.update(ada, policy=policy, update_mask=["issuer"])
    for actor in (ada, person(tenant, "carol"), person(tenant, "dave")):
        portal.enrolled(actor)
    with visiting(
        browser, portal.origin, portal.console, width=_WIDTH, height=_HEIGHT, **options
    ) as visitor:
        page = states.STATES[state](portal, visitor, tenant)
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
