"""Draws the QR codes of enrollments, and keeps each until its enrollment ends."""

import asyncio
import io
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from struct import pack
from typing import Final
from zlib import compress, crc32

import segno

_QUIET_ZONE: Final = 4
_PNG_PIXELS: Final = 6
_SVG_PIXELS: Final = 4
_TITLE: Final = "QR code for an authenticator app"
_MASK: Final = 3
"""One mask for all codes (ISO/IEC 18004 §7.8): readers accept all eight masks, and the search for
the best one takes three quarters of the time. A secret is random, so every mask fits it."""
_REMEMBERED: Final = 256
"""Pictures of about 7 kB each."""


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A QR code in both forms. It contains the secret, which no repr shows (S11)."""

    svg: str
    png: bytes


def draw(uri: str) -> Picture:
    """Draw the code: SVG with a white background, PNG in black and white, both with a quiet zone.

    This takes about 3 ms of CPU time; use `Pictures` on an event loop.
    """
    code = _code(uri)
    return Picture(_svg(code), _png(code))


def terminal(uri: str) -> str:
    """The code as text for a terminal, two rows of modules to a line."""
    text = io.StringIO()
    _code(uri).terminal(text, border=2, compact=True)
    return text.getvalue()


def _code(uri: str) -> segno.QRCode:
    # The least error correction that the number of modules allows: a screen is clean, and readers
    # need large modules.
    return segno.make_qr(uri, error="l", mask=_MASK)


def _svg(code: segno.QRCode) -> str:
    """An SVG element that a page can include and show in any size.

    The edges are not smoothed, because readers fail on grey modules of less than two pixels.
    """
    written = io.BytesIO()
    code.save(
        written,
        kind="svg",
        scale=_SVG_PIXELS,
        omitsize=True,  # gives a viewBox instead
        border=_QUIET_ZONE,
        light="white",
        xmldecl=False,
        title=_TITLE,
        svgclass=None,
        lineclass=None,
        nl=False,
    )
    size = (len(code.matrix) + 2 * _QUIET_ZONE) * _SVG_PIXELS
    attributes = f'width="{size}" height="{size}" shape-rendering="crispEdges"'
    return f"<svg {attributes}{written.getvalue().decode().removeprefix('<svg')}"


def _png(code: segno.QRCode) -> bytes:
    """A PNG of one bit per pixel (PNG specification, §11.2), ten times as fast as segno's."""
    size = (len(code.matrix) + 2 * _QUIET_ZONE) * _PNG_PIXELS
    margin = "1" * (_QUIET_ZONE * _PNG_PIXELS)
    padding = "0" * (-size % 8)
    black, white = "0" * _PNG_PIXELS, "1" * _PNG_PIXELS
    rows = [
        _scan_line(f"{margin}{''.join(black if dark else white for dark in row)}{margin}{padding}")
        for row in code.matrix
    ]
    blank = _scan_line("1" * size + padding) * (_QUIET_ZONE * _PNG_PIXELS)
    pixels = blank + b"".join(row * _PNG_PIXELS for row in rows) + blank
    header = pack(">2I5B", size, size, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, content)
        for name, content in ((b"IHDR", header), (b"IDAT", compress(pixels)), (b"IEND", b""))
    )


def _scan_line(bits: str) -> bytes:
    return b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def _chunk(name: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + name + content + pack(">I", crc32(name + content))


@dataclass(frozen=True, slots=True)
class _Remembered:
    uri: str
    picture: Picture
    forgetting: asyncio.TimerHandle


class Pictures:
    """Draws one code at a time, off the event loop, and keeps the latest pictures in memory.

    A picture contains a secret. It is removed when its enrollment expires, or before (S6).
    """

    def __init__(
        self, drawing: Callable[[str], Picture] = draw, capacity: int = _REMEMBERED
    ) -> None:
        self._draw = drawing
        self._capacity = capacity
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        # One thread: more threads would only compete for the interpreter's lock.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="qr")

    async def find_or_draw(
        self, enrollment_id: str, uri: str, expires_at: datetime, now: datetime
    ) -> Picture:
        """Return the picture of the key URI of an enrollment.

        The drawing does not begin if the call is cancelled before. A picture of another URI is
        replaced, and every picture is removed when its enrollment expires.
        """
        known = self._remembered.get(enrollment_id)
        if known is not None and known.uri == uri:
            self._remembered.move_to_end(enrollment_id)
            return known.picture
        loop = asyncio.get_running_loop()
        picture = await loop.run_in_executor(self._executor, self._draw, uri)
        self.forget(enrollment_id)
        forgetting = loop.call_later((expires_at - now).total_seconds(), self.forget, enrollment_id)
        self._remembered[enrollment_id] = _Remembered(uri, picture, forgetting)
        while len(self._remembered) > self._capacity:
            self.forget(next(iter(self._remembered)))
        return picture

    def forget(self, enrollment_id: str) -> None:
        """Remove the picture of an enrollment, if it exists."""
        known = self._remembered.pop(enrollment_id, None)
        if known is not None:
            known.forgetting.cancel()
