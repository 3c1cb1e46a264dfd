"""Draws the QR codes of enrollments on one thread, and keeps them until the enrollment ends."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stepup.rpc.wire.qr import Picture, draw

_REMEMBERED: Final = 256
"""Pictures of about 7 kB each."""


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
