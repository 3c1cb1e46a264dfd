"""The server's log as lines of JSON, cheap enough for one line in every call."""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from threading import Lock
from typing import Any, BinaryIO

import orjson
import structlog

from stepup.portions import portions

_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def as_json_line(
    _logger: Any, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.ProcessorReturnValue:
    """One line of ASCII with the time, `timestamp`; the last of structlog's processors."""
    fields["timestamp"] = datetime.now(UTC)
    try:
        line = orjson.dumps(fields, default=repr, option=_OPTIONS)
    except TypeError:  # it knows no lone surrogates, and no integers of more than 64 bits
        line = None
    if line is not None and line.isascii():
        return line
    # Characters beyond ASCII are escaped: to a terminal some are commands.
    return json.dumps(fields, default=_as_text).encode() + b"\n"


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return repr(value)


class LinesOfATurn:
    """Writes lines to a stream, those of one turn of the event loop together, at its end.

    A warning or an error is written at once, after the lines that wait; so is any line where no
    event loop runs. Threads may share this.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._writing = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def later(self, line: bytes) -> None:
        """Write a line at the end of this turn."""
        self._waiting.append(line)
        # A loop that was closed does not write any more what it was to write.
        if self._loop is not None and not self._loop.is_closed():
            return
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write()
        else:
            self._loop.call_soon(self._write)

    def at_once(self, line: bytes) -> None:
        """Write a line."""
        self._waiting.append(line)
        self._write()

    # What structlog calls, by the level of a line.
    debug = info = later
    warning = error = critical = at_once

    def _write(self) -> None:
        self._loop = None
        with self._writing:
            for lines in portions(self._taken()):
                self._stream.write(lines)
                self._stream.flush()

    def _taken(self) -> Iterator[bytes]:
        while self._waiting:
            yield self._waiting.popleft()
