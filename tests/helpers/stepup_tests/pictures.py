"""QR codes as a person's phone sees them."""

import io
from xml.etree import ElementTree as ET

import resvg_py
from PIL import Image
from zxingcpp import read_barcodes


def read_qr(picture):
    """What the one QR code of a picture says."""
    [symbol] = read_barcodes(picture)
    return symbol.text


def rasterised(svg, pixels):
    """The picture of an SVG whose size a page has set, as a style sheet does."""
    root = ET.fromstring(svg)  # noqa: S314  # from the server under test
    root.set("width", f"{pixels}")
    root.set("height", f"{pixels}")
    picture = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(ET.tostring(root, "unicode")))))
    assert picture.size == (pixels, pixels)
    return picture
