"""A real browser: the Chromium and the fonts that `make .browser/stamp` gets."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from stepup_tests.places import ROOT

_DIRECTORY = ROOT / ".browser"
EXECUTABLE = _DIRECTORY / "chromium"
_FONTS = _DIRECTORY / "fonts.conf"
_PATIENCE_MILLISECONDS = 60_000  # on a machine that is busy with other tests


@contextmanager
def chromium(fonts: Path = _FONTS) -> Iterator[Browser]:
    """A browser that knows the fonts of `.browser` only, where these could be got.

    Args:
        fonts: a configuration of fontconfig.
    """
    environment = {name: value for name, value in os.environ.items() if name != "FONTCONFIG_FILE"}
    if fonts.exists():
        environment["FONTCONFIG_FILE"] = str(fonts)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=EXECUTABLE,
            args=["--no-sandbox"],  # a container gives its root no namespaces
            env=environment,
            timeout=_PATIENCE_MILLISECONDS,
        )
        try:
            yield browser
        finally:
            browser.close()
