"""Server processes, and a look at what is left of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepup_tests.e2e.leaks import Secrets
from stepup_tests.engines import ENGINE
from stepup_tests.places import SHORT

PROGRAMS = Path(sys.executable).parent  # of the environment that the tests run in
_PATIENCE_SECONDS = 90.0  # on a machine that is busy with other tests
_ADDRESS_LINE = "stepup is listening on "
SETTINGS: dict[Path, Mapping[str, str]] = {}
"""What processes with a home of ours see as well: where their stores are, if not embedded."""


def eventually(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something holds, and return what it holds with."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (held := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {_PATIENCE_SECONDS:.0f} s: {what}")
        time.sleep(0.05)
    return held


def environment(home: Path, temporary: Path) -> dict[str, str]:
    """What a process of ours sees: our programs first, no settings of whoever runs the tests,
    but for the engine that they are to run on, and the stores of the topology."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("STEPUP_")}
    return outside | {
        "STEPUP_SERVER__ENGINE": ENGINE,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "TMPDIR": str(temporary),
        **SETTINGS.get(home, {}),
    }


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory with a short path, for sockets; pytest's own are too deep."""
    path = Path(tempfile.mkdtemp(prefix="e2e-", dir=SHORT))  # with mode 0700
    try:
        yield path
    finally:
        shutil.rmtree(path)


def run(
    command: Sequence[str | Path], directory: Path, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with `directory` as its home and for its temporary files."""
    with temporary_directory() as temporary:
        return subprocess.run(
            command,
            cwd=directory,
            env=environment(directory, temporary) | dict(settings or {}),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def processes_in(directory: Path) -> list[int]:
    """The ids of the processes that work in a directory; an embedded store does in its own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            where = (entry / "cwd").readlink()
        except OSError:  # it has ended meanwhile
            continue
        if where.is_relative_to(directory) and is_alive(int(entry.name)):
            found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class ServerProcess:
    """`stepup serve` on a data directory of its own; the same one after each restart.

    It serves whoever comes, unless `insecure` is false: then the arguments have to name a
    configuration with credentials. What it writes to standard output and error is in `stdout` and
    `stderr`, of all its lives, and what calls were refused with is in `errors`.

    `site` is what it stands on: see `e2e.topologies`. Callers find it at `address`, it listens at
    `own_address`; these differ where something stands in between.
    """

    def __init__(
        self, directory: Path, temporary: Path, *arguments: str, site: Any, insecure: bool = True
    ) -> None:
        self.data_dir = directory / "data"
        self.temporary = temporary
        self.stdout = directory / "stdout"
        self.stderr = directory / "stderr"
        self.secrets = Secrets()
        self.errors: list[str] = []
        self.site = site
        self.address = self.own_address = ""
        self._directory = directory
        self._arguments = (*arguments, "--insecure") if insecure else arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it says where it listens."""
        said = self.stdout.stat().st_size if self.stdout.exists() else 0
        self.launch()

        def address() -> str:
            if not self.is_running:
                raise AssertionError(f"the server ended at once:\n{self.stderr.read_text()}")
            line, newline, _ = self.stdout.read_text()[said:].partition("\n")
            return line.removeprefix(_ADDRESS_LINE) if newline else ""

        self.own_address = eventually(address, "the server says where it listens")
        self.address = self.site.reached(self.own_address)

    def launch(self) -> int:
        """Begin to start it; returns its process id."""
        with self.stdout.open("ab") as stdout, self.stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [
                    PROGRAMS / "stepup",
                    "serve",
                    *("--data-dir", self.data_dir),
                    *("--listen", "127.0.0.1:0"),
                    *self._arguments,
                ],
                cwd=self._directory,
                env=environment(self._directory, self.temporary),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def crash(self) -> int:
        """End it by a fault in native code; returns its exit status."""
        return self._end(signal.SIGSEGV)

    def terminate(self) -> int:
        """Ask it to end; returns its exit status."""
        return self._end(signal.SIGTERM)

    def interrupt(self) -> int:
        """Ask it to end as Ctrl-C does; returns its exit status."""
        return self._end(signal.SIGINT)

    def hang_up(self) -> None:
        """Let it reload."""
        os.kill(self.pid, signal.SIGHUP)

    def restart_workers(self) -> None:
        """Let it replace its workers, one after the other."""
        os.kill(self.pid, signal.SIGUSR2)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of an event; gRPC has others in between."""
        # The last one may not be complete yet.
        *written, _ = self.stderr.read_text().split("\n")
        lines = [json.loads(line) for line in written if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def restart(self) -> None:
        """Start it anew on the same data directory; it has a new address."""
        if self.is_running:
            self.terminate()
        self.start()

    def close(self) -> None:
        """Leave no process behind, whatever has happened."""
        if self.is_running:
            self.kill()
        for pid in processes_in(self.data_dir):
            os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers, oldest first."""
        return [line["pid"] for line in self.logged("worker_started") if is_alive(line["pid"])]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def embedded_store(self) -> int | None:
        """The process id of the embedded Valkey."""
        pids = processes_in(self.data_dir / "valkey")
        return pids[0] if pids else None

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(_PATIENCE_SECONDS)
