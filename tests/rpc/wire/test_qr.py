"""The QR code: what a page shows, and what a camera reads."""

import io
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from stepup_tests.pictures import rasterised, read_qr

from stepup.domain.totp import Label, TotpSecret, key_uri
from stepup.rpc.wire.qr import draw

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
