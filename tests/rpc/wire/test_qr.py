"""The QR code: what a page shows, and what a camera reads."""

import asyncio
import io
import threading
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from stepup_tests.clock import ManualClock
from stepup_tests.pictures import rasterised, read_qr

from stepup.domain.totp import Label, TotpSecret, key_uri
from stepup.rpc.wire.qr import Picture, Pictures, draw

SVG = "{http://www.w3.org/2000/svg}"
SMALLEST = 120
NAMES = {
    "short": ("stepup", "bob"),
    "an e-mail address": ("Acme Security", "alice.smith@acme.example"),
    "long": ("x" * 64, "y" * 64),
    "Japanese": ("\u8b66\u5099" * 6, "\u5c71\u7530\u3000\u592a\u90ce" * 3),
}
LONGEST = (Label("\u20ac" * 42), Label("\u20ac" * 42))


def key_uris(names):
    """Key URIs of several secrets, the same ones in each run."""
    labels = [Label(name) for name in names]
    return [key_uri(TotpSecret(bytes(range(n, n + 20))), *labels) for n in range(0, 200, 40)]


def test_the_svg_is_an_element_that_a_page_can_hold():
    svg = draw(key_uris(NAMES["short"])[0]).svg
    assert (svg[:5], svg[-6:], "<?" in svg) == ("<svg ", "</svg>", False)
    root = ET.fromstring(svg)  # noqa: S314  # our own
    assert (root[0].tag, root[0].text) == (f"{SVG}title", "QR code for an authenticator app")
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_svg_is_read_in_120_pixels(names):
    uris = key_uris(names)
    assert [read_qr(rasterised(draw(uri).svg, SMALLEST)) for uri in uris] == uris


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_the_png_is_read_in_120_pixels(names):
    uris = key_uris(names)
    for resampling in (Image.Resampling.BILINEAR, Image.Resampling.LANCZOS):
        small = [
            Image.open(io.BytesIO(draw(uri).png)).convert("L").resize((SMALLEST,) * 2, resampling)
            for uri in uris
        ]
        assert [read_qr(each) for each in small] == uris


def test_the_longest_names_are_read_in_240_pixels():
    [uri, *_] = key_uris(LONGEST)
    assert read_qr(rasterised(draw(uri).svg, 240)) == uri


NOW = ManualClock().now()
LATER = NOW + timedelta(minutes=10)


class Drawer:
    """Blocks its thread until the release, and counts."""

    def __init__(self):
        self.release = threading.Event()
        self.threads, self.uris, self.at_once, self.most = set(), [], 0, 0

    def __call__(self, uri):
        assert threading.current_thread() is not threading.main_thread()
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.threads.add(threading.get_ident())
        self.uris.append(uri)
        assert self.release.wait(30)
        self.at_once -= 1
        return Picture(uri, uri.encode())


@pytest.fixture
def drawer():
    drawer = Drawer()
    yield drawer
    drawer.release.set()


async def test_s18_codes_are_drawn_off_the_event_loop_one_at_a_time(drawer):
    pictures = Pictures(drawer)
    tasks = [
        asyncio.create_task(pictures.find_or_draw(str(n), f"uri-{n}", LATER, NOW)) for n in range(9)
    ]
    await asyncio.sleep(0)  # the loop runs though the drawer blocks
    drawer.release.set()
    assert [picture.svg for picture in await asyncio.gather(*tasks)] == [
        f"uri-{n}" for n in range(9)
    ]
    assert drawer.most == 1
    assert len(drawer.threads) == 1


async def test_s18_the_drawing_of_a_call_that_was_cancelled_is_not_begun(drawer):
    pictures = Pictures(drawer)
    tasks = [
        asyncio.create_task(pictures.find_or_draw(str(n), f"uri-{n}", LATER, NOW)) for n in range(9)
    ]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    drawer.release.set()
    await tasks[0]
    await pictures.find_or_draw("last", "uri-last", LATER, NOW)
    assert drawer.uris == ["uri-0", "uri-last"]


async def test_a_picture_is_drawn_once(drawer):
    drawer.release.set()
    pictures = Pictures(drawer)
    for uri in ("one", "one", "two"):
        assert (await pictures.find_or_draw("1", uri, LATER, NOW)).svg == uri
    assert drawer.uris == ["one", "two"]


async def test_s18_no_more_than_the_latest_are_remembered(drawer):
    drawer.release.set()
    pictures = Pictures(drawer, capacity=2)
    for name in ("1", "2", "1", "3", "1", "2"):
        await pictures.find_or_draw(name, name, LATER, NOW)
    assert drawer.uris == ["1", "2", "3", "2"]


async def test_s6_a_picture_is_forgotten_when_its_wizard_ends(drawer):
    drawer.release.set()
    pictures = Pictures(drawer)
    await pictures.find_or_draw("1", "1", NOW, NOW)
    await asyncio.sleep(0)  # a timer that is due runs in the next turn of the loop
    await asyncio.sleep(0)
    await pictures.find_or_draw("1", "1", LATER, NOW)
    pictures.forget("1")
    pictures.forget("1")
    await pictures.find_or_draw("1", "1", LATER, NOW)
    assert drawer.uris == ["1", "1", "1"]


def test_s11_a_picture_never_shows_its_secret():
    assert "SECRET" not in repr(draw("otpauth://totp/a?secret=SECRET"))
