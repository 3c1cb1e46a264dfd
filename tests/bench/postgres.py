"""A PostgreSQL server of the machine's packages, as durable as it comes."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import NotFitError
from bench.store import free_port
from e2e.processes import eventually

_PROGRAMS = Path("/usr/lib/postgresql")  # of Debian; elsewhere they are on the path
_NOBODY = "nobody"


@dataclass(frozen=True)
class Postgres:
    """A server that accepts connections, for databases of their own."""

    address: str
    pid: int

    def create(self, name):
        """Make a database; returns its URL."""
        host, _, port = self.address.partition(":")
        command = ("createdb", "-h", host, "-p", port, "-U", "postgres", name)
        subprocess.run((_program(command[0]), *command[1:]), check=True)
        return f"postgresql://postgres@{self.address}/{name}"


@contextmanager
def postgres():
    """Run a server, on the core of this process.

    Raises:
        NotFitError: PostgreSQL is not installed.
    """
    # It refuses to be root.
    user = {"user": _NOBODY, "group": "nogroup"} if os.geteuid() == 0 else {}
    initdb, server = _program("initdb"), _program("postgres")
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        directory = Path(name)
        if user:
            shutil.chown(directory, **user)
        subprocess.run(
            (initdb, "-D", directory, "-U", "postgres", "-A", "trust", "-E", "UTF8"),
            stdout=subprocess.DEVNULL,
            check=True,
            cwd=directory,
            **user,
        )
        port = free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": ""}
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                (
                    *(server, "-D", directory),
                    *(f"--{setting}={value}" for setting, value in settings.items()),
                ),
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                **user,
            )
        try:
            ready = (_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port))
            eventually(
                lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL listens"
            )
            yield Postgres(f"127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


def version():
    """Which one it is."""
    said = subprocess.run((_program("postgres"), "--version"), capture_output=True, check=True)
    return said.stdout.decode().split()[2]


def _program(name):
    packaged = sorted(_PROGRAMS.glob(f"*/bin/{name}"))
    found = packaged[-1] if packaged else shutil.which(name)
    if found is None:
        raise NotFitError("PostgreSQL is missing: apt-get install postgresql")
    return found
