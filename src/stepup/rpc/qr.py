"""The QR code of an enrollment, for the console's screen and for a terminal."""

import io

import segno


def svg(uri: str) -> str:
    """The code as an SVG document with a white background and a quiet zone."""
    picture = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(
        picture, kind="svg", scale=4, border=4, light="white", xmldecl=True, encoding="utf-8"
    )
    return picture.getvalue().decode()


def png(uri: str) -> bytes:
    """The code as a black and white PNG picture with a quiet zone."""
    picture = io.BytesIO()
    segno.make(uri, error="m", micro=False).save(picture, kind="png", scale=6, border=4)
    return picture.getvalue()
