"""On PostgreSQL a server wants the right schema and survives the loss of its database (S17)."""

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest
from e2e.conftest import serving
from e2e.enrolled import enrolled
from e2e.processes import PROGRAMS, eventually, run
from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from support.otp import code_at
from support.postgres import PostgresServer

from stepup.domain.actor import TenantId
from stepup.domain.audit import EventKind
from stepup.domain.totp import TotpSecret
from stepup.service.ports import EventQuery
from stepup.stores.sql import SqlDatabase
from stepup.v1 import actor_pb2, step_up_service_pb2_grpc
from stepup.v1.step_up_service_pb2 import Outcome, VerifyOtpRequest

pytestmark = pytest.mark.e2e

TENANT = "acme"
SECRET = TotpSecret(bytes(range(100, 120)))
USERS = [f"user-{number}" for number in range(400)]
CALLERS_OF_EACH = 2
THREADS = 4 * CALLERS_OF_EACH
LATEST_SECONDS = 15
"""By then a call has ended, on a machine that is busy with other tests: its limits are 1 s each."""


@pytest.fixture(scope="module")
def postgresql():
    """A server to be killed."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def url(postgresql):
    """An empty database."""
    execute(postgresql.url(), "CREATE DATABASE stepup")
    yield postgresql.url("stepup")
    execute(postgresql.url(), "DROP DATABASE stepup WITH (FORCE)")


@pytest.fixture
def configuration(url, tmp_path):
    file = tmp_path / "stepup.toml"
    file.write_text(
        f'[storage]\ndatabase_url = "{url}"\n'
        "[storage.database]\nwait_seconds = 1\nstatement_seconds = 1\nlock_seconds = 1\n"
    )
    return file


@pytest.fixture
def stepup(configuration, tmp_path):
    """Runs a command."""
    return lambda *arguments: run(
        [PROGRAMS / "stepup", *arguments, "--config", configuration], tmp_path
    )


def execute(url, statement):
    async def executed():
        engine = create_async_engine(
            make_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        async with engine.connect() as connection:
            await connection.execute(text(statement))

    asyncio.run(executed())


# --- The schema ---


def test_a_database_that_was_not_migrated_is_not_served(stepup):
    refused = stepup("serve", "--insecure")
    assert refused.returncode == 2
    assert refused.stderr == (
        "stepup: the database schema is of revision none, this version needs 0001:"
        " run `stepup migrate`\n"
    )


def test_a_database_of_another_version_is_not_served_nor_migrated(stepup, url):
    assert stepup("migrate").returncode == 0
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    refused = stepup("serve", "--insecure")
    assert refused.returncode == 2
    assert "of revision 9999, this version needs 0001: it is of another version" in refused.stderr
    assert stepup("migrate").returncode == 2


def test_several_may_migrate_at_once_and_then_a_server_starts(stepup, configuration, tmp_path):
    with ThreadPoolExecutor(3) as threads:
        ends = list(threads.map(lambda _: stepup("migrate").returncode, range(3)))
    assert ends == [0, 0, 0]
    with serving(tmp_path, "--config", str(configuration)) as server:
        assert server.is_running


# --- A schema that a newer version has migrated ---

EXPANDED = (
    "ALTER TABLE authenticators ADD COLUMN hint varchar",
    "ALTER TABLE audit_events ADD COLUMN origin varchar",
    "CREATE TABLE devices (tenant_id varchar PRIMARY KEY)",
    "UPDATE alembic_version SET version_num = '0002'",
)


def test_a_server_that_runs_goes_on_while_the_schema_grows(stepup, url, load):
    for statement in EXPANDED:
        execute(url, statement)
    load.goes_on()
    load.end()
    assert set(load.ends) <= {"OUTCOME_VERIFIED", "OUTCOME_REJECTED", "OUTCOME_THROTTLED"}
    # But it does not start any more.
    assert stepup("serve", "--insecure").returncode == 2


# --- A database that is lost, and regained ---


class Load:
    """Callers that verify codes without a pause; each code is given by several at once.

    A call that ends with UNAVAILABLE is made again, with the same code.
    """

    def __init__(self, target):
        self.ends = Counter()
        self.verified = Counter()
        self.slowest = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._channels = [
            grpc.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1),))
            for _ in range(THREADS)
        ]
        self._codes = {}
        self._threads = [
            threading.Thread(
                target=self._call, args=(channel, USERS[number // CALLERS_OF_EACH :: 4])
            )
            for number, channel in enumerate(self._channels)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Let the callers end."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        for channel in self._channels:
            channel.close()

    def goes_on(self):
        """Wait until some more codes have been accepted, from now on."""
        enough = self.verified.total() + 20
        eventually(lambda: self.verified.total() >= enough, "codes are accepted")

    def is_refused(self):
        """Wait until some more calls have been refused, from now on."""
        enough = self.ends["UNAVAILABLE"] + THREADS
        eventually(lambda: self.ends["UNAVAILABLE"] >= enough, "calls are refused")

    def _call(self, channel, users):
        stub = step_up_service_pb2_grpc.StepUpServiceStub(channel)
        for user in users:
            with self._lock:
                code = self._codes.setdefault(user, code_at(SECRET.octets, datetime.now(UTC)))
            actor = actor_pb2.ActorContext(tenant_id=TENANT, user_id=user, session_id="monday")
            while not self._stopped.is_set() and self._verify(stub, actor, code) == "UNAVAILABLE":
                self._stopped.wait(0.05)

    def _verify(self, stub, actor, code):
        began = time.monotonic()
        try:
            answer = stub.VerifyOtp(VerifyOtpRequest(actor=actor, code=code), timeout=60)
            end = Outcome.Name(answer.outcome)
        except grpc.RpcError as error:
            end = error.code().name
        with self._lock:
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.ends[end] += 1
            self.verified[actor.user_id] += end == "OUTCOME_VERIFIED"
        return end


@pytest.fixture
def load(stepup, configuration, url, tmp_path):
    """A server on the database, and callers of it."""
    assert stepup("migrate").returncode == 0
    with serving(tmp_path, "--config", str(configuration)) as server:
        enrolled(server, TENANT, dict.fromkeys(USERS, SECRET), url)
        with Load(server.address) as load:
            load.goes_on()
            yield load


async def recorded_verifications(url):
    """How often the audit trail has it of each user that a code was accepted."""
    database = SqlDatabase(url)
    query = EventQuery(TenantId(TENANT), kinds=frozenset({EventKind.OTP_VERIFIED}))
    async with database.snapshot() as records:
        listed = await records.audit.list(query, 10 * len(USERS))
    await database.close()
    return Counter(chained.event.actor_user_id for chained in listed)


def kill(postgresql):
    postgresql.kill()
    return postgresql.start


def freeze(postgresql):
    postgresql.freeze()
    return postgresql.thaw


@pytest.mark.parametrize("lose", [kill, freeze])
def test_s2_s17_a_lost_database_is_unavailable_for_a_time_and_nothing_else(
    postgresql, stepup, url, load, lose
):
    regain = lose(postgresql)
    try:
        load.is_refused()
    finally:
        regain()
    load.goes_on()
    load.end()
    assert load.slowest < LATEST_SECONDS
    outcomes = {"OUTCOME_VERIFIED", "OUTCOME_REJECTED", "OUTCOME_THROTTLED"}
    assert set(load.ends) <= {"UNAVAILABLE", *outcomes}
    assert max(load.verified.values()) == 1

    recorded = asyncio.run(recorded_verifications(url))
    assert max(recorded.values()) == 1
    assert recorded.keys() >= {user for user, times in load.verified.items() if times}
    proven = stepup("audit", "verify")
    assert proven.returncode == 0, proven.stdout
