"""A machine with systemd below a directory, as docs/production.md expects it.

`run` runs the commands of documents in the shell that `start_shell` starts. The paths of the
machine are below the directory, and its ports are free ports. Programs that need root or the
network are replaced: `runuser` runs its command as this user, `pip` takes the dependencies from the
environment of the tests, and `systemctl` starts what the unit says, with a notification socket.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stepup_tests.certificates import Authority
from stepup_tests.e2e.processes import PROGRAMS
from stepup_tests.e2e.processes import temporary_directory as short_directory
from stepup_tests.places import ROOT
from stepup_tests.postgres import SETTINGS, PostgresServer
from stepup_tests.roles import POSTGRES_PROGRAMS
from stepup_tests.service_notices import Notices
from stepup_tests.valkey_server import HOST, Server, free_port, wait_until
from tools.bench.store import listens

_PATH = f"{POSTGRES_PROGRAMS}:{ROOT / '.redis'}:{PROGRAMS}:{os.environ['PATH']}"
_NEEDED = ("redis-server", "redis-cli", "openssl", "curl")
_PORTS = ("5432", "6379", "9464", "9465", "50051")
_OF_THE_MACHINE = re.compile(r"(?<![\w./])/(?=(?:etc|opt|root|usr/local|var)/)")
_END = "the commands have ended"
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # linux/prctl.h
_PASSWORDS = f"""
local all all trust
host all postgres {HOST}/32 trust
host all all {HOST}/32 scram-sha-256
"""
_REPLACED = {
    **dict.fromkeys(("apt-get", "useradd", "chown", "chgrp"), "exit 0"),
    "install": """
        kept=()
        while [ $# -gt 0 ]; do case $1 in -o|-g) shift 2;; *) kept+=("$1"); shift;; esac; done
        exec /usr/bin/install "${kept[@]}"
    """,
    "runuser": """
        [ "$2" != postgres ] || export PGUSER=postgres PGHOST=127.0.0.1 PGPORT={postgres}
        shift 3
        exec "$@"
    """,
    "python3": """
        {python} -m venv --without-pip "$3"
        cp {stubs}/pip "$3/bin/pip"
    """,
    "pip": """
        here=$(dirname "$0")
        case "$*" in
          *--requirement*)
            cd "$here"/../lib/python*/site-packages
            echo {packages} > tests.pth;;
          *) exec {python} -m pip --python "$here/python" --quiet --disable-pip-version-check \
               "$@" --no-compile;;
        esac
    """,
    "systemctl": """
        echo "$*" > {stubs}/requests
        read -r status < {stubs}/answers
        exit "$status"
    """,
}


def has_programs():
    """Whether this machine has the programs that the documents call."""
    return all(shutil.which(program, path=_PATH) for program in _NEEDED)


class PlainMachine:
    """The machine, for as long as a `with` block lasts.

    Attributes:
        notices: what the server has reported to its service manager.
    """

    def __init__(self, directory):
        self.notices = []
        self._root = directory / "root"
        self._stubs = directory / "stubs"
        self._errors = directory / "stderr"
        self._ports = {port: str(free_port()) for port in _PORTS}
        self._stack = ExitStack()
        self._number = 0
        self._server = None

    def path(self, written):
        """Where a path of the machine is."""
        return self._root / written.lstrip("/")

    def __enter__(self):
        with self._stack:
            self._make_directories()
            self._build_wheel()
            self._start_postgres()
            directory = self._stack.enter_context(short_directory())
            self._socket = Notices(directory / "notify")
            self._stack.callback(self._socket.close)
            threading.Thread(target=self._answer_requests, daemon=True).start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def start_shell(self):
        """Start the shell for the next commands: it has no variable of the one before."""
        outside = {
            name: text
            for name, text in os.environ.items()
            # Each start of the installed program would compile all its modules again.
            if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("STEPUP")
        }
        self._environment = outside | {
            "HOME": str(self._root / "root"),
            "XDG_CONFIG_HOME": str(self._root / "root" / ".config"),
            "PATH": f"{self._stubs}:{self._root}/usr/local/bin:{_PATH}",
            "no_proxy": HOST,
        }
        errors = self._stack.enter_context(self._errors.open("ab"))
        self._shell = self._stack.enter_context(
            subprocess.Popen(
                ["bash"],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        )
        self._stack.callback(self._shell.kill)

    def run(self, commands, replaced=None):
        """Run commands in the shell; returns what they have written to standard output."""
        for written, real in (replaced or {}).items():
            commands = commands.replace(written, real)
        commands = _OF_THE_MACHINE.sub(f"{self._root}/", commands)
        for written, real in self._ports.items():
            commands = re.sub(rf"\b{written}\b", real, commands)
        self._number += 1
        script = self._stubs / f"block-{self._number}"
        script.write_text(commands.replace("dist/", f"{self._root}/dist/"))
        self._shell.stdin.write(f". {script} </dev/null\necho; echo {_END}\n")
        self._shell.stdin.flush()
        written = ""
        for line in self._shell.stdout:
            if line == f"{_END}\n":
                return written.removesuffix("\n")
            written += line
        raise AssertionError(f"{script.read_text()}\n{written}\n{self.errors[-4000:]}")

    @property
    def errors(self):
        """What the commands and the servers have written to standard error."""
        return self._errors.read_text()

    @property
    def imported_from(self):
        """Where the installed program has its package."""
        command = "import stepup; print(stepup.__file__)"
        return Path(self.run(f"/opt/stepup/bin/python -P -c '{command}'").strip())

    @contextmanager
    def redis_with_tls(self):
        """The address of another Redis with the same users, which takes TLS only."""
        authority = Authority.create()
        authority.server().write(self._root, "redis")
        self.path("/etc/stepup/redis-ca.pem").write_bytes(authority.chain)
        server = Server(
            self._root / f"redis-{self._number}",
            *("--tls-cert-file", self._root / "redis.crt"),
            *("--tls-key-file", self._root / "redis.key"),
            *("--tls-ca-cert-file", self.path("/etc/stepup/redis-ca.pem")),
            *("--tls-auth-clients", "no", "--aclfile", self.path("/etc/redis/users.acl")),
            program=shutil.which("redis-server", path=_PATH),
            has_tls=True,
            username="stepup-operator",
            password=self.path("/etc/stepup/redis-operator.password").read_text().strip(),
            ssl_ca_certs=self.path("/etc/stepup/redis-ca.pem"),
        )
        try:
            wait_until(server.answers, "Redis answers")
            yield server.address
        finally:
            server.close()

    def _make_directories(self):
        for path in ("etc/redis", "etc/systemd/system", "opt", "root", "usr/local/bin"):
            (self._root / path).mkdir(parents=True)
        for path in ("dist", "var/lib/redis", "var/backups"):
            (self._root / path).mkdir(parents=True)
        self.path("/etc/redis/redis.conf").write_text(
            f"bind {HOST}\nport {self._ports['6379']}\ndir {self.path('/var/lib/redis')}\n"
        )
        self._stubs.mkdir()
        values = {
            "postgres": self._ports["5432"],
            "python": sys.executable,
            "packages": sysconfig.get_path("purelib"),
            "stubs": str(self._stubs),
        }
        for name, body in _REPLACED.items():
            program = re.sub(r"(?<!\$)\{(\w+)\}", lambda found: values[found[1]], body)
            (self._stubs / name).write_text(f"#!/bin/bash\nset -e\n{program}\n")
            (self._stubs / name).chmod(0o755)
        for name in ("requests", "answers"):
            os.mkfifo(self._stubs / name)

    def _build_wheel(self):
        subprocess.run(
            [PROGRAMS / "hatchling", "build", "-t", "wheel", "-d", self._root / "dist"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )

    def _start_postgres(self):
        port = self._ports["5432"]
        postgres = PostgresServer({**SETTINGS, "listen_addresses": HOST, "port": port})
        self._stack.callback(postgres.close)
        (postgres.directory / "data" / "pg_hba.conf").write_text(_PASSWORDS)
        postgres.start()

    def _answer_requests(self):
        while True:
            request = (self._stubs / "requests").read_text().strip()
            try:
                self._obey(request)
                status = 0
            except Exception as error:  # noqa: BLE001  # the shell has to get an answer
                with self._errors.open("a") as errors:
                    errors.write(f"systemctl {request}: {error!r}\n")
                status = 1
            (self._stubs / "answers").write_text(f"{status}\n")

    def _obey(self, request):
        match request:
            case "restart redis-server":
                program = shutil.which("redis-server", path=_PATH)
                self._start([program, self.path("/etc/redis/redis.conf")], {})
                wait_until(lambda: listens(int(self._ports["6379"])), "Redis listens")
            case "daemon-reload":
                pass
            case "enable --now stepup":
                unit = self.path("/etc/systemd/system/stepup.service").read_text()
                [command] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
                [state] = re.findall(r"^StateDirectory=(\w+)$", unit, re.MULTILINE)
                self.path(f"/var/lib/{state}").mkdir(mode=0o700)
                variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE))
                self._server = self._start(
                    [_OF_THE_MACHINE.sub(f"{self._root}/", word) for word in command.split()],
                    {
                        name: _OF_THE_MACHINE.sub(f"{self._root}/", value)
                        for name, value in variables.items()
                    }
                    | {"NOTIFY_SOCKET": self._socket.path},
                    preexec_fn=_forbid_writable_code,
                )
                self.notices.append(self._socket.receive())
            case "reload stepup":
                unit = self.path("/etc/systemd/system/stepup.service").read_text()
                [command] = re.findall(r"^ExecReload=(.*)$", unit, re.MULTILINE)
                command = command.replace("$MAINPID", str(self._server.pid))
                subprocess.run(command.split(), check=True)
                self.notices += [self._socket.receive() for _ in range(2)]
            case "stop stepup":
                self._server.terminate()
                assert self._server.wait(60) == 0
                self.notices.append(self._socket.receive())
            case _:
                raise AssertionError("not expected")

    def _start(self, command, variables, **options):
        with self._errors.open("ab") as errors:
            process = subprocess.Popen(
                command,
                cwd=self._root,
                env=self._environment | variables,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                **options,
            )
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process


def _forbid_writable_code():
    """Do what MemoryDenyWriteExecute= does, where the kernel can (Linux 6.3)."""
    ctypes.CDLL(None).prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
