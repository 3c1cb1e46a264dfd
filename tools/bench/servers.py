"""Server processes under measurement: one at a time, each with the server's core to itself."""

import os
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from stepup_tests.e2e.processes import environment
from stepup_tests.places import ROOT

from tools.bench.machine import SERVER_CORE, pinned

_STOP_SECONDS = 20.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A server that has said where it listens."""

    address: str
    pid: int


@contextmanager
def serving(command, directory, core=SERVER_CORE):
    """Run a server for as long as the block lasts.

    Its log is in `stderr` in the directory, of its latest life only.

    Raises:
        RuntimeError: it ended before it said where it listens.
    """
    log = Path(directory) / "stderr"
    variables = environment(directory, Path(tempfile.gettempdir()))
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            pinned(command, core),
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            announcement = process.stdout.readline()
            if not announcement:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()}")
            yield Server(announcement.split()[-1], process.pid)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def refusals(directory):
    """How many calls of a `stepup serve` ended with which error, by its log: whom to ask why."""
    endings: Counter[tuple[str, str]] = Counter()
    for line in (Path(directory) / "stderr").read_bytes().splitlines():
        with suppress(orjson.JSONDecodeError):
            entry = orjson.loads(line)
            if entry.get("event") == "call" and entry["code"] != "OK":
                endings[entry["code"], entry["reason"]] += 1
    return dict(endings)


def cpu_seconds(pid):
    """How long a process and its children have run: on a core, in user code or in the kernel."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if pid in {int(stat.parent.name), int(fields[1])}:
                # User, system, and the same of children that were waited for: 14 to 17 of proc(5).
                total += sum(map(int, fields[11:15])) / _TICKS_PER_SECOND
    return total


@dataclass(frozen=True)
class Memory:
    """The memory of a process: all of it, and the part that it does not share with others."""

    resident_bytes: int
    own_bytes: int


def memory(pid):
    """The memory of a process."""
    resident, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    page = os.sysconf("SC_PAGE_SIZE")
    return Memory(resident * page, (resident - shared) * page)
