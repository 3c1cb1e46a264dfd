"""The server's log as lines of JSON, cheap enough for one line in every call.

Logging never raises and never waits: a line that cannot be written is dropped and counted.
"""

import asyncio
import io
import re
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Final, Protocol

import orjson
import structlog
from prometheus_client import Counter

from stepup.system.json_texts import ascii_json

MAX_WAITING_LINES: Final = 2000
"""How many lines wait for a pipe that nobody reads; further lines are dropped."""
RETRY_SECONDS: Final = 1.0
"""The time after which waiting lines are written again, if no line comes before."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

_dropped = Counter(
    "stepup_log_lines_dropped",
    "Lines of the server's log that could not be written: its pipe is full or broken, or the disk.",
)


class Sink(Protocol):
    """Where lines go, such as an `Outlet`; `descriptor` is the file's."""

    descriptor: int

    def write(self, octets: bytes, /) -> int:
        """Write as much as can be written without waiting.

        Raises:
            BlockingIOError: nothing can be written without waiting.
            OSError: the sink cannot be written to.
        """
        ...

    def portions(self, lines: list[bytes], /) -> list[bytes]:
        """Join lines into as few writes as possible that keep each line whole."""
        ...


def as_json_line(_logger: Any, _method: str, fields: structlog.typing.EventDict) -> bytes:
    """Render a line of ASCII with its time, `timestamp`; the last of structlog's processors."""
    fields["timestamp"] = datetime.now(UTC)
    try:
        return ascii_json(fields, _as_text, orjson.OPT_UTC_Z)
    except Exception as error:  # noqa: BLE001  # logging never raises, for any value
        event = str(fields.get("event", ""))
        return ascii_json({"event": event, "not_rendered": type(error).__name__}, repr)


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return repr(value)


def as_printable_line(text: str) -> bytes:
    """Render text as lines of printable ASCII with a newline at the end; escape the rest.

    This also escapes terminals' escape sequences: add colours afterwards.
    """
    printable = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text.rstrip("\n"))
    return printable.encode("ascii", "backslashreplace") + b"\n"


class LinesOfATurn:
    """Writes lines to a sink, those of one turn of the event loop together, at its end.

    A warning or an error is written at once, after the waiting lines; so is any line if no event
    loop runs. Threads may share an instance, and log a line while another line is written.

    If the pipe is full, up to MAX_WAITING_LINES lines wait; every other failure drops the lines.
    Each further line tries again, and after a loss `log_lines_lost` has the number of lost lines.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: deque[bytes] = deque()
        self._portions: deque[bytes] = deque()  # of the lines that are being written
        self._writing = Lock()
        self._is_blocked = False
        self._is_within_line = False
        self._lost = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retrying: asyncio.AbstractEventLoop | None = None

    def later(self, line: bytes) -> None:
        """Write a line at the end of this turn."""
        self._append(line)
        # A closed loop no longer writes its lines.
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
        self._append(line)
        self._write()

    # structlog calls the method of a line's level.
    debug = info = later
    warning = error = critical = at_once

    def _append(self, line: bytes) -> None:
        if self._is_blocked and len(self._waiting) >= MAX_WAITING_LINES:
            self._lose(1)
        else:
            self._waiting.append(line)

    def _write(self) -> None:
        self._loop = None
        # A thread that finds another one writing leaves its line to that thread, which looks again
        # afterwards. Waiting would never end if the garbage collector logs a line within a write.
        while (self._waiting or self._portions) and self._writing.acquire(blocking=False):
            try:
                self._write_waiting()
                self._is_blocked = False
            except BlockingIOError:
                self._is_blocked = True
                self._retry_later()
                return
            except Exception:  # noqa: BLE001  # the code that logs cannot handle it
                self._drop()
                return
            finally:
                self._writing.release()

    def _write_waiting(self) -> None:
        while True:
            while self._portions:
                written = self._sink.write(self._portions[0])
                portion = self._portions[0]
                self._is_within_line = portion[written - 1 : written] not in (b"", b"\n")
                if written == len(portion):
                    self._portions.popleft()
                else:
                    self._portions[0] = portion[written:]
            lines = self._take()
            if not lines and self._lost:
                lines = [self._line_of_loss()]
            if not lines:
                return
            self._portions.extend(self._sink.portions(lines))

    def _take(self) -> list[bytes]:
        lines = []
        while self._waiting:
            lines.append(self._waiting.popleft())
        return lines

    def _line_of_loss(self) -> bytes:
        lost, self._lost = self._lost, 0
        fields = {"lines": lost, "event": "log_lines_lost", "level": "warning"}
        return ascii_json({**fields, "timestamp": datetime.now(UTC)}, _as_text, orjson.OPT_UTC_Z)

    def _drop(self) -> None:
        """Drop all lines; end an incomplete line, so that the next line is separate."""
        begun = sum(portion.count(b"\n") for portion in self._portions if portion != b"\n")
        self._portions.clear()
        waiting = len(self._waiting)
        self._waiting.clear()
        if self._is_within_line:
            self._portions.append(b"\n")
        self._lose(begun + waiting)

    def _lose(self, lines: int) -> None:
        self._lost += lines
        with suppress(Exception):
            _dropped.inc(lines)

    def _retry_later(self) -> None:
        if self._retrying is None or self._retrying.is_closed():
            with suppress(RuntimeError):  # no event loop runs: the next line tries again
                self._retrying = asyncio.get_running_loop()
                self._retrying.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._retrying = None
        self._write()


class StandardError(io.TextIOBase):
    """Replaces `sys.stderr`: logs the lines of Python and libraries, and never raises or blocks."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, lines: LinesOfATurn, descriptor: int) -> None:
        self._lines = lines
        self._descriptor = descriptor
        self._begun = ""

    def fileno(self) -> int:
        """The descriptor of standard error."""
        return self._descriptor

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write text; an incomplete line waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._lines.at_once(as_printable_line(line))
        return len(text)

    def flush(self) -> None:
        """Write an incomplete line."""
        if self._begun:
            self.write("\n")
