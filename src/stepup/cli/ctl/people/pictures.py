"""Reads the QR codes of a picture; needs the extra `import`."""

import io
from typing import Final

from stepup.system.distribution import missing_extra

_SIGNATURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_MAX_PIXELS: Final = 50_000_000


class PictureError(Exception):
    """A picture cannot be read; the message says why."""


def is_picture(content: bytes) -> bool:
    """Whether a file is a PNG or a JPEG."""
    return content.startswith(_SIGNATURES)


def texts_of(content: bytes) -> list[str]:
    """The texts of all QR codes of a picture.

    Raises:
        PictureError: the picture is malformed or too large, has no QR code, or the extra is not
            installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415  # an extra
        from zxingcpp import BarcodeFormat, BarcodeFormats, read_barcodes  # noqa: PLC0415  # as above
    except ImportError as error:
        raise PictureError(f"is a picture, which {missing_extra('import')}") from error
    try:
        picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if picture.width * picture.height > _MAX_PIXELS:
            raise PictureError(f"has more than {_MAX_PIXELS // 1_000_000} million pixels")
        symbols = read_barcodes(picture.convert("L"), formats=BarcodeFormats(BarcodeFormat.QRCode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PictureError("is not a picture that can be read") from error
    if not symbols:
        raise PictureError("has no QR code that can be read")
    return [symbol.text for symbol in symbols]
