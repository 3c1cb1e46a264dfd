"""What servers stand on in these tests: `STEPUP_TEST_TOPOLOGY` says it, `make e2e-topologies` all.

On each but `embedded` all servers of a session share one PostgreSQL, with a database each. A Redis
serves one server at a time, and is emptied after it.
"""

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import redis
from sqlalchemy import make_url
from stepup_tests.e2e.envoy import in_front_of
from stepup_tests.e2e.processes import PROGRAMS, SETTINGS, run
from stepup_tests.e2e.sql import execute
from stepup_tests.postgres import shared_server
from stepup_tests.roles import SERVES
from stepup_tests.valkey_cluster import valkey_cluster
from stepup_tests.valkey_sentinel import valkey_sentinel

from tools.bench.store import store

VARIABLE = "STEPUP_TEST_TOPOLOGY"
# Other processes of the session make it, too.
_CREATE_ROLE = (
    f"DO $$ BEGIN CREATE ROLE {SERVES} LOGIN;"
    " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
)
EMBEDDED = "embedded"
ENVOY = "envoy"
"""Callers come through Envoy, to two workers."""


@dataclass(frozen=True)
class Redises:
    """What keeps elevations: how a server finds it, where it writes, and who has the keys."""

    url: str
    directory: Path
    masters: Callable[[], list[redis.Redis]]


@contextmanager
def _single(directory):
    with store(directory) as address:
        port = int(address.rpartition(":")[2])
        yield Redises(f"redis://{address}/0", directory, lambda: [redis.Redis(port=port)])


@contextmanager
def _with_sentinels(directory):
    with valkey_sentinel(directory) as valkey:
        yield Redises(valkey.redis_url, directory, lambda: [valkey.master.client])


@contextmanager
def _cluster(directory):
    with valkey_cluster(directory) as valkey:
        clients = [master.client for master in valkey.masters]
        yield Redises(valkey.redis_url, directory, lambda: clients)


_REDISES = {
    "redis": _single,
    "sentinel": _with_sentinels,
    "cluster": _cluster,
    ENVOY: _single,
}
NOT_EMBEDDED = tuple(_REDISES)
TOPOLOGIES = (EMBEDDED, *NOT_EMBEDDED)
DIRECT = tuple(name for name in TOPOLOGIES if name != ENVOY)
"""Where callers have a connection with the server itself."""
TOPOLOGY = os.environ.get(VARIABLE, EMBEDDED)


class EmbeddedSite:
    """Everything is in the server's data directory."""

    def __init__(self, home):
        self.settings = {}
        self._database = home / "data" / "stepup.db"

    @property
    def database_url(self):
        return f"sqlite+aiosqlite:///{self._database}"

    @contextmanager
    def without_database(self):
        """While the block lasts, the server's database is not to be had."""
        away = self._database.with_name("away.db")
        self._database.rename(away)
        try:
            yield
        finally:
            away.rename(self._database)

    @contextmanager
    def redises(self, server):
        """A client of each master that has keys of the server."""
        [socket] = server.temporary.glob("*/valkey.sock")
        with redis.Redis(unix_socket_path=str(socket)) as client:
            yield [client]

    def reached(self, address):
        """Where callers find the server that listens at an address."""
        return address

    def files(self):
        """What was written for the server elsewhere than in its data directory."""
        return []


class Site:
    """A database of PostgreSQL, and a Redis; before the server there may be Envoy."""

    def __init__(self, database_url, redises, directory):
        self.database_url = database_url
        self._redises = redises
        self._directory = directory
        self._began = time.time()
        self._fronts = ExitStack()
        self.settings = {
            # S14: everything that is tested here works with the rights of a server.
            "STEPUP_STORAGE__DATABASE_URL": make_url(database_url)
            .set(username=SERVES)
            .render_as_string(hide_password=False),
            "STEPUP_STORAGE__REDIS_URL": redises.url,
        }
        if TOPOLOGY == ENVOY:
            self.settings["STEPUP_SERVER__WORKERS"] = "2"

    @contextmanager
    def without_database(self):
        name = make_url(self.database_url).database
        self._administer(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            self._administer(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name",
                name=name,
            )
            yield
        finally:
            self._administer(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    @contextmanager
    def redises(self, server):  # noqa: ARG002  # as above
        with ExitStack() as stack:
            yield [stack.enter_context(client) for client in self._redises.masters()]

    def reached(self, address):
        if TOPOLOGY != ENVOY:
            return address
        self._fronts.close()
        front = in_front_of(self._directory, address, has_tls=False)
        return self._fronts.enter_context(front).address

    def files(self):
        [(data, oid)] = execute(
            self.database_url,
            "SELECT current_setting('data_directory'), oid FROM pg_database"
            " WHERE datname = current_database()",
        )
        self._administer("CHECKPOINT")
        data = Path(data)
        tables = (data / "base" / str(oid)).iterdir()
        log_of_writes = (data / "pg_wal").glob("[0-9A-F]*")
        recent = [file for file in log_of_writes if file.stat().st_mtime >= self._began]
        assert recent, "PostgreSQL has written nothing"
        with (self._redises.directory / "values").open("wb") as values:
            for client in self._redises.masters():
                for key in client.scan_iter():
                    values.write(key + b"\n" + (client.dump(key) or b"") + b"\n")
        written = [*self._redises.directory.rglob("*"), *self._directory.rglob("*.log")]
        return [*tables, *recent, data.parent / "log", *written]

    def close(self):
        """Leave nothing for whoever comes next."""
        self._fronts.close()
        for client in self._redises.masters():
            client.flushall()
        name = make_url(self.database_url).database
        self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _administer(self, statement, **parameters):
        execute(make_url(self.database_url).set(database="postgres"), statement, **parameters)


class _Stage:
    """The processes of a session: started when a server first needs them."""

    def __init__(self, directory, stack):
        self._stack = stack
        self._idle = []
        self._postgresql = stack.enter_context(shared_server(directory))
        self._template = self._new_database("template1")
        with tempfile.TemporaryDirectory() as home:
            url = self._url(self._template)
            execute(self._postgresql, _CREATE_ROLE)
            migrate = [PROGRAMS / "stepup", "migrate", "--grant-to", SERVES]
            done = run(migrate, Path(home), {"STEPUP_STORAGE__DATABASE_URL": url})
        assert not done.returncode, done.stderr

    @contextmanager
    def site(self, directory):
        if not self._idle:
            self._idle.append(self._new_redises())
        redises = self._idle.pop()
        site = Site(self._url(self._new_database(self._template)), redises, directory)
        try:
            yield site
        finally:
            site.close()
            self._idle.append(redises)

    def _new_redises(self):
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="redis-"))
        return self._stack.enter_context(_REDISES[TOPOLOGY](Path(directory)))

    def _new_database(self, template):
        name = f"stepup_e2e_{uuid4().hex}"
        execute(self._postgresql, f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _url(self, database):
        return make_url(self._postgresql).set(database=database).render_as_string(False)


class Session:
    """The topology for the tests of one process; `directory` is the same for all that may share."""

    current = None

    def __init__(self, directory):
        assert TOPOLOGY in TOPOLOGIES, f"{VARIABLE}: one of {', '.join(TOPOLOGIES)}"
        self._directory = directory
        self._stack = ExitStack()
        self._stage = None
        self._sites = {}

    def __enter__(self):
        Session.current = self
        return self

    def __exit__(self, *_):
        Session.current = None
        self._stack.close()

    @contextmanager
    def site(self, home):
        """The site of the servers with a home; to every process there it is in the environment."""
        if home in self._sites:
            yield self._sites[home]
            return
        with self._new_site(home) as site:
            self._sites[home], SETTINGS[home] = site, site.settings
            try:
                yield site
            finally:
                del self._sites[home], SETTINGS[home]

    @contextmanager
    def _new_site(self, home):
        if TOPOLOGY == EMBEDDED:
            yield EmbeddedSite(home)
            return
        if self._stage is None:
            self._stage = _Stage(self._directory, self._stack)
        with (
            tempfile.TemporaryDirectory(prefix="site-") as directory,
            self._stage.site(Path(directory)) as site,
        ):
            yield site
