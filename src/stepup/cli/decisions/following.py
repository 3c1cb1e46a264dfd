"""The last decisions of logs, and each new one, also after logrotate has renamed a file."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Final

from stepup.cli import output
from stepup.cli.decisions.reading import IN_EVERY_LINE
from stepup.cli.decisions.sources import STDIN, LogsError, matches
from stepup.cli.times import shown

_POLL_SECONDS: Final = 0.5
_POLLS_WITHOUT_PATH: Final = 20
"""After so many polls no call under way writes any more to a file that was renamed or removed."""
_BLOCK_BYTES: Final = 1 << 16
_LONGEST_LINE_BYTES: Final = 1 << 20
"""No decision is as long; what is before such a line is not read backwards."""
_COMPRESSED: Final = (".gz", ".xz", ".zst", ".bz2")


class _Log:
    """An open log, by whatever name; `position` is behind the last line that was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._polls_without_path = 0
        self.position = 0

    def backwards(self) -> Iterator[bytes]:
        """The complete lines, the last one first. `position` is then behind the last one."""
        self.position = self._end_of_lines()
        return self._lines_before(self.position)

    def new_lines(self) -> Iterator[bytes]:
        """The complete lines from `position` on."""
        if os.fstat(self._file.fileno()).st_size < self.position:
            self.position = 0  # somebody truncated the file
        self._file.seek(self.position)
        for line in self._file:
            if not line.endswith(b"\n"):
                return
            self.position += len(line)
            yield line

    def count_poll(self, *, has_path: bool) -> bool:
        """Count a poll; return whether the file has lost its path so long ago that it may close."""
        self._polls_without_path = 0 if has_path else self._polls_without_path + 1
        return self._polls_without_path > _POLLS_WITHOUT_PATH

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _end_of_lines(self) -> int:
        place = self._file.seek(0, os.SEEK_END)
        while place > 0:
            place, block = self._block_before(place)
            if (found := block.rfind(b"\n")) >= 0:
                return place + found + 1
        return 0

    def _lines_before(self, place: int) -> Iterator[bytes]:
        rest = b""
        while place > 0 and len(rest) < _LONGEST_LINE_BYTES:
            place, block = self._block_before(place)
            rest, *lines = (block + rest).split(b"\n")
            yield from reversed(lines)
        yield rest

    def _block_before(self, place: int) -> tuple[int, bytes]:
        begin = max(0, place - _BLOCK_BYTES)
        self._file.seek(begin)
        return begin, self._file.read(place - begin)


class Logs:
    """The logs that sources name, by their inodes: a file that is renamed stays the same log."""

    def __init__(self, sources: Sequence[str], tenant_id: str | None, user_id: str | None) -> None:
        """Open the logs that are there.

        Raises:
            LogsError: a source names no log.
        """
        self._sources = sources
        self._wanted = {"tenant_id": tenant_id, "user_id": user_id}
        self._logs: dict[tuple[int, int], _Log] = {}
        for source in sources:
            opened = [self._open(path) for path in _paths((source,))]
            if not any(opened):
                self.close()
                raise LogsError(f"{source}: no such file, or it is compressed or cannot be read")

    def __len__(self) -> int:
        """How many files are open."""
        return len(self._logs)

    def close(self) -> None:
        """Close all files."""
        while self._logs:
            self._logs.popitem()[1].close()

    def last(self, number: int) -> list[dict[str, Any]]:
        """The last decisions of all logs together, in the order of time."""
        found: list[dict[str, Any]] = []
        for log in self._logs.values():
            found += islice(self._decisions(log.backwards()), number)
        return sorted(found, key=itemgetter("decided_at"))[-number:] if number else []

    def new(self) -> Iterator[dict[str, Any]]:
        """Each decision as it is written, for ever."""
        while True:
            paths = {self._open(path) for path in _paths(self._sources)}
            for key, log in list(self._logs.items()):
                yield from self._decisions(log.new_lines())
                if log.count_poll(has_path=key in paths):
                    self._logs.pop(key).close()
            time.sleep(_POLL_SECONDS)

    def _open(self, path: str) -> tuple[int, int] | None:
        """The inode at a path, whose log is open now; None if it cannot be opened."""
        with suppress(OSError):
            status = Path(path).stat()
            key = (status.st_dev, status.st_ino)
            if key not in self._logs:
                self._logs[key] = _Log(Path(path).open("rb"))  # noqa: SIM115  # until it is lost
            return key
        return None

    def _decisions(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        return _decisions(lines, self._wanted)


def write_last(
    sources: Sequence[str],
    number: int,
    *,
    follow: bool,
    tenant_id: str | None,
    user_id: str | None,
    as_json: bool,
) -> None:
    """Write the last decisions, and with `follow` each new one. Standard input is written whole.

    Raises:
        LogsError: a source names no log, or `-` is not the only source.
    """
    if STDIN in sources:
        if list(sources) != [STDIN]:
            raise LogsError("-: standard input cannot be followed together with files")
        wanted = {"tenant_id": tenant_id, "user_id": user_id}
        for decision in _decisions(sys.stdin.buffer, wanted):
            _write(decision, as_json=as_json)
        return
    with closing(Logs(sources, tenant_id, user_id)) as logs:
        for decision in chain(logs.last(number), logs.new() if follow else ()):
            _write(decision, as_json=as_json)


def _paths(sources: Sequence[str]) -> list[str]:
    """The files that the sources name now, without compressed ones and directories."""
    return [
        name
        for source in sources
        for name in matches(source)
        if Path(name).is_file() and not name.endswith(_COMPRESSED)
    ]


def _decisions(
    lines: "Iterator[bytes] | BinaryIO", wanted: Mapping[str, str | None]
) -> Iterator[dict[str, Any]]:
    """The decisions among lines. Other lines are left out: a log may share a stream with others."""
    for line in lines:
        try:
            decision = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(decision, dict) or not all(
            isinstance(decision.get(name), str) for name in IN_EVERY_LINE
        ):
            continue
        if all(value in (None, decision[name]) for name, value in wanted.items()):
            yield decision


def _write(decision: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.write_json(decision)
        return
    instant = decision["decided_at"]
    with suppress(ValueError, OverflowError):
        instant = shown(datetime.fromisoformat(instant))
    of = f" on {decision['target']}" if decision.get("target") else ""
    output.write_wrapped(
        f"{instant}  {decision['tenant_id']} {decision['user_id']}  {decision['caller']}:"
        f" {decision['operation']}{of}  {decision['decision']}: {decision['reason']}"
    )
