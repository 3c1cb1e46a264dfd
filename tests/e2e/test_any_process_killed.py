"""Any one process is killed while a business is at work: nothing is lost, nothing granted (S17)."""

import asyncio
import os
import signal
import time
from collections import Counter

import pytest
from stepup_tests.e2e.business import TENANT, at_work
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.people import OSQUERY, SHELL, administrator, update_policy
from stepup_tests.e2e.processes import PROGRAMS, eventually, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.postgres import PostgresServer
from stepup_tests.valkey_sentinel import valkey_sentinel
from stepup_tests.valkey_server import free_port

from stepup.domain.actor import TenantId
from stepup.domain.totp import TotpSecret
from stepup.service.ports import EventQuery
from stepup.stores.sql import SqlDatabase

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]

WORKERS = 2
SECRET = TotpSecret(bytes(range(120, 140)))
PEOPLE = dict.fromkeys((f"user-{number}" for number in range(3000)), SECRET)
SERVICE_WITHIN_SECONDS = 20
"""After the kill; the Sentinels take 1 s to be sure, and the machine is busy with other tests."""


class Production:
    """PostgreSQL, Redis with Sentinels, and a server with workers that a business works with."""

    def __init__(self, postgresql, valkey):
        self.postgresql = postgresql
        self.valkey = valkey
        self.server = None

    def kill_worker(self):
        before = self.server.workers
        os.kill(before[0], signal.SIGKILL)
        return eventually(lambda: set(self.server.workers) - set(before), "another is started")

    def kill_worker_and_its_successor(self):
        [successor] = self.kill_worker()
        os.kill(successor, signal.SIGKILL)

    def kill_supervisor(self):
        self.server.kill()
        self.server.start()

    def kill_master(self):
        self.valkey.kill_master()

    def kill_replica(self):
        self.valkey.replicas_of(self.valkey.master)[0].kill()

    def kill_sentinel(self):
        self.valkey.sentinels[0].kill()

    def kill_database(self):
        self.postgresql.kill()
        self.postgresql.start()

    def kill_process_of_database(self):
        self.postgresql.kill_backend("postgres stepup")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    with (
        PostgresServer() as postgresql,
        valkey_sentinel(tmp_path_factory.mktemp("valkey")) as valkey,
    ):
        yield Production(postgresql, valkey)


@pytest.fixture
def url(stores):
    """A database of the test's own."""
    execute(stores.postgresql.url(), "CREATE DATABASE stepup")
    yield stores.postgresql.url("stepup")
    execute(stores.postgresql.url(), "DROP DATABASE stepup WITH (FORCE)")


@pytest.fixture
def configuration(stores, url, tmp_path):
    file = tmp_path / "stepup.toml"
    file.write_text(
        f"[server]\nworkers = {WORKERS}\n"
        f'[storage]\ndatabase_url = "{url}"\nredis_url = "{stores.valkey.redis_url}"\n'
    )
    return file


@pytest.fixture
def stepup(configuration, tmp_path):
    """Runs a command."""
    return lambda *arguments: run(
        [PROGRAMS / "stepup", *arguments, "--config", configuration], tmp_path
    )


@pytest.fixture
def production(stores, configuration, stepup, url, tmp_path):
    assert stepup("migrate").returncode == 0
    # It is where callers look for it after a restart, too.
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    with serving(tmp_path, "--config", str(configuration), *listen) as server:
        stores.server = server
        selected = [{"operation": OSQUERY}, {"operation": SHELL, "every_time": True}]
        update_policy(GrpCurl(server), administrator(TENANT), enabled=True, operations=selected)
        enrolled(server, TENANT, PEOPLE, url)
        yield stores
    stores.valkey.heal()
    stores.valkey.flush()


async def recorded(url):
    """How many audit events there are of each kind and user."""
    database = SqlDatabase(url)
    async with database.snapshot() as records:
        listed = await records.audit.list(EventQuery(TenantId(TENANT)), 100_000)
    await database.close()
    return Counter((chained.event.kind, chained.event.actor_user_id) for chained in listed)


KILLS = [Production.kill_master, Production.kill_database]
FURTHER_KILLS = [
    Production.kill_worker,
    Production.kill_worker_and_its_successor,
    Production.kill_supervisor,
    Production.kill_replica,
    Production.kill_sentinel,
    Production.kill_process_of_database,
]


@pytest.mark.parametrize(
    "kill",
    [*KILLS, *(pytest.param(kill, marks=pytest.mark.slow) for kill in FURTHER_KILLS)],
    ids=lambda kill: kill.__name__.removeprefix("kill_"),
)
def test_s2_s10_s13_s17_any_process_may_be_killed_and_nothing_acknowledged_is_lost(
    production, stepup, url, kill
):
    with at_work(production.server, PEOPLE) as business:
        killed = time.monotonic()
        kill(production)
        business.goes_on()
        in_doubt = None
        while in_doubt != business.last_in_doubt:
            in_doubt = business.last_in_doubt
            business.goes_on()
    assert business.last_in_doubt - killed < SERVICE_WITHIN_SECONDS
    business.audit(asyncio.run(recorded(url)))
    proven = stepup("audit", "verify")
    assert proven.returncode == 0, proven.stdout
