"""The QR code of an enrollment, for the console's screen and for a terminal."""

import io

import segno


def svg(uri: str) -> str:
    """The code as an SVG document with a white background and a quiet zone."""
    picture = io.BytesIO()
    _code(uri).save(
        picture, kind="svg", scale=4, border=4, light="white", xmldecl=True, encoding="utf-8"
    )
    return picture.getvalue().decode()


def png(uri: str) -> bytes:
    """The code as a black and white PNG picture with a quiet zone."""
    picture = io.BytesIO()
    _code(uri).save(picture, kind="png", scale=6, border=4)
    return picture.getvalue()


def terminal(uri: str) -> str:
    """The code as text for a terminal, two rows of modules to a line."""
    text = io.StringIO()
    _code(uri).terminal(text, border=2, compact=True)
    return text.getvalue()


def _code(uri: str) -> segno.QRCode:
    return segno.make_qr(uri, error="m")
