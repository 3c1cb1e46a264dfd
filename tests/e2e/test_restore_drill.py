"""The commands of docs/backup.md bring back what was acknowledged before the back-up."""

import hashlib
import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import pytest
from stepup_tests.e2e.authenticator_app import next_step
from stepup_tests.e2e.callers import Callers
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    enrol,
    events,
    person,
    policy_of,
    protect,
    verdict,
    verify,
)
from stepup_tests.e2e.processes import environment
from stepup_tests.e2e.readme import blocks, section
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.places import ROOT
from stepup_tests.postgres import PostgresServer
from stepup_tests.roles import POSTGRES_PROGRAMS
from stepup_tests.valkey_server import Server, wait_until

from stepup.v1 import enrollment_service_pb2, enrollment_service_pb2_grpc

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]

TENANT = "acme"
ALICE, BOB, DAVE = (person(TENANT, user) for user in ("alice", "bob", "dave"))
AGAIN = person(TENANT, "alice", "after the back-up")
LATER = person(TENANT, "alice", "after the restoration")
DOCUMENT = (ROOT / "docs" / "backup.md").read_text()
REDIS_PROGRAMS = ROOT / ".redis"
ROLES = ROOT / "deploy" / "postgresql" / "roles.sql"
USERS = ROOT / "deploy" / "redis" / "users.acl"
PASSWORD, OPERATOR_PASSWORD = "stepups-word", "operators-word"


class Place:
    """Where the stores are, and the documented commands as they are for these."""

    title = "Embedded stores"
    needs = "sqlite3"
    passwords = {}  # noqa: RUF012  # nobody changes it

    def __init__(self, directory):
        self.directory = directory
        self.data_dir = directory / "data"
        self.etc = directory / "etc"
        self.etc.mkdir()
        self._back_up, self._restore = blocks(section(DOCUMENT, self.title), "sh")

    @property
    def arguments(self):
        return ()

    @property
    def stepup(self):
        return f"stepup {{}} --data-dir {self.data_dir}"

    @property
    def keys_file(self):
        return self.data_dir / "keys.json"

    @property
    def replaced(self):
        return {
            "/var/lib/stepup": self.data_dir,
            "/var/backups": self.directory / "backups",
            "/etc/stepup": self.etc,
        }

    def back_up(self):
        self.demand(self._here(self._back_up))

    def restore(self):
        self.demand(self._here(self._restore))

    def destroy(self):
        shutil.rmtree(self.data_dir)

    def demand(self, script):
        done = self.run(script)
        assert not done.returncode, done.stdout + done.stderr

    def run(self, script):
        """Run it, but stop at the first command that fails."""
        variables = environment(self.directory, self.directory)
        path = f"{POSTGRES_PROGRAMS}:{variables['PATH']}:{REDIS_PROGRAMS}"
        return subprocess.run(
            ["bash", "-e"],
            input=script,
            cwd=self.directory,
            env=variables | {"PATH": path} | self.passwords,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _here(self, documented):
        for written, real in self.replaced.items():
            documented = documented.replace(written, str(real))
        return documented


class PostgresPlace(Place):
    """PostgreSQL, and a Redis that other machines can reach, with the users of operating.md."""

    title = "PostgreSQL"
    needs = "redis-cli"
    passwords = {  # noqa: RUF012  # as above
        "STEPUP_MIGRATE_PASSWORD": "migrates",
        "STEPUP_SERVE_PASSWORD": "serves",
        "REDISCLI_AUTH": OPERATOR_PASSWORD,
    }

    def __init__(self, directory, postgresql, redis):
        super().__init__(directory)
        self._postgresql = postgresql
        self._redis = redis
        self._execute("CREATE DATABASE stepup")
        self.demand(f'psql --no-psqlrc --dbname="{self._url("postgres", "stepup")}" --file={ROLES}')
        for name, role in (("stepup.toml", "stepup_serve"), ("migrate.toml", "stepup_migrate")):
            (self.etc / name).write_text(
                f'[storage]\ndatabase_url = "{self._url(role, "stepup")}"\n'
                f'redis_url = "redis://stepup:{PASSWORD}@{redis}/0"\n'
                f'keys_file = "{self.keys_file}"\n'
            )
        self.demand(f"stepup keys generate --output {self.keys_file}")
        self.demand(f"stepup migrate --config {self.etc}/migrate.toml --grant-to stepup_serve")

    @property
    def arguments(self):
        return ("--config", str(self.etc / "stepup.toml"))

    @property
    def stepup(self):
        return f"stepup {{}} --config {self.etc}/stepup.toml"

    @property
    def keys_file(self):
        return self.etc / "keys.json"

    @property
    def replaced(self):
        return super().replaced | {
            "postgresql://stepup_migrate@db/stepup": self._url("stepup_migrate", "stepup"),
            '"$ADMIN/postgres"': f'"{self._url("postgres", "postgres")}"',
            '"$ADMIN/stepup"': f'"{self._url("postgres", "stepup")}"',
            "deploy/postgresql/roles.sql": ROLES,
            "cache:6379": self._redis,
        }

    def destroy(self):
        """Lose the database and its roles, as a server of PostgreSQL that is lost."""
        super().destroy()
        self.keys_file.unlink()
        self._execute("DROP DATABASE stepup WITH (FORCE)")
        self._execute("DROP ROLE stepup_migrate, stepup_serve")

    def _execute(self, statement):
        url = self._url("postgres", "postgres")
        self.demand(f'psql --no-psqlrc "{url}" --command "{statement}"')

    def _url(self, role, database):
        return (
            self._postgresql.url(database)
            .replace("+asyncpg", "")
            .replace("//postgres@", f"//{role}@")
        )


class Writers(Callers):
    """People who open wizards without a pause, each of which is an audit event."""

    def __init__(self, address):
        self.acknowledged = 0
        self._channel = grpc.insecure_channel(address)
        super().__init__({"writer": self._write})

    def end(self):
        super().end()
        self._channel.close()

    def _write(self):
        stub = enrollment_service_pb2_grpc.EnrollmentServiceStub(self._channel)
        actor = {
            "tenant_id": "busy",
            "user_id": f"user-{self.acknowledged}",
            "session_id": "monday",
        }
        stub.BeginEnrollment(enrollment_service_pb2.BeginEnrollmentRequest(actor=actor))
        self.acknowledged += 1
        return "OK"


@dataclass
class Drill:
    """What was before the loss, and a server after it."""

    place: Place
    client: GrpCurl
    policy: dict
    trail: list
    written: int
    """How many events of the writers were acknowledged before the back-up began."""
    verdict_before_the_loss: tuple
    used: dict
    """What became of a code that had been accepted after the back-up."""
    verified: dict


@contextmanager
def redis_with_users(directory):
    """The address of a Redis with the users of deploy/redis/users.acl."""
    users = USERS.read_text()
    for name, password in (("STEPUP", PASSWORD), ("OPERATOR", OPERATOR_PASSWORD)):
        digest = hashlib.sha256(password.encode()).hexdigest()
        users = users.replace(f"SHA256_OF_{name}_PASSWORD", digest)
    (directory / "users.acl").write_text(users)
    operator = {"username": "stepup-operator", "password": OPERATOR_PASSWORD}
    server = Server(directory / "redis", "--aclfile", directory / "users.acl", **operator)
    try:
        wait_until(server.answers, "Redis answers")
        yield server.address
    finally:
        server.close()


@pytest.fixture(
    params=["embedded", pytest.param("postgresql", marks=pytest.mark.slow)], scope="module"
)
def place(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("drill")
    kind = Place if request.param == "embedded" else PostgresPlace
    if shutil.which(kind.needs, path=f"{os.environ['PATH']}:{REDIS_PROGRAMS}") is None:
        pytest.skip(f"{kind.needs} is not installed")
    if kind is Place:
        yield Place(directory)
        return
    with PostgresServer() as postgresql, redis_with_users(directory) as address:
        yield PostgresPlace(directory, postgresql, address)


@pytest.fixture(scope="module")
def drill(place):
    with serving(place.directory, *place.arguments) as server:
        client = GrpCurl(server)
        policy = protect(client, administrator(TENANT), OSQUERY)
        alice, bob = enrol(client, ALICE), enrol(client, BOB)
        for _ in range(5):
            verify(client, BOB, bob.app.wrong_code())
        trail = events(client, TENANT)
        with Writers(server.address) as writers:
            writers.wait_for(20, "OK")
            written = writers.acknowledged
            place.back_up()
            writers.wait_for(20, "OK")
            enrol(client, DAVE)
            next_step()
            used = alice.app.code()
            assert verify(client, AGAIN, used)["outcome"] == "OUTCOME_VERIFIED"
        before = verdict(client, AGAIN, OSQUERY)
        place.demand(place.stepup.format("audit head") + f" --output {place.directory}/later.json")
        server.kill()
        server.close()
        place.destroy()
        place.restore()
        server.start()
        yield Drill(
            place,
            client,
            policy,
            trail,
            written,
            before,
            verify(client, LATER, used),
            verify(client, LATER, alice.app.code()),
        )


def test_s4_what_was_acknowledged_before_the_back_up_is_there(drill):
    assert policy_of(drill.client, TENANT) == drill.policy
    assert drill.verified["outcome"] == "OUTCOME_VERIFIED"
    assert verdict(drill.client, LATER, OSQUERY) == ("ALLOWED", "ELEVATED")
    assert verify(drill.client, BOB, "000000")["outcome"] == "OUTCOME_THROTTLED"
    assert events(drill.client, TENANT)[: len(drill.trail)] == drill.trail
    begun = drill.place.run(
        drill.place.stepup.format("audit export") + " --tenant busy --format jsonl"
    ).stdout
    assert len(begun.splitlines()) >= drill.written > 0


def test_s2_what_came_after_the_back_up_grants_nothing(drill):
    """Neither a code that was used, nor an elevation, nor an enrollment."""
    assert drill.used["outcome"] == "OUTCOME_REJECTED"
    assert drill.verdict_before_the_loss == ("ALLOWED", "ELEVATED")
    for actor in (ALICE, AGAIN):
        assert verdict(drill.client, actor, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert verdict(drill.client, DAVE, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")


@pytest.mark.slow
def test_s14_heads_from_after_the_back_up_tell_what_is_missing(drill):
    verify_against = drill.place.stepup.format("audit verify") + " --head "
    backups = drill.place.directory / "backups" / "stepup"
    assert drill.place.run(f"{verify_against}{backups}/heads.json").returncode == 0
    told = drill.place.run(f"{verify_against}{drill.place.directory}/later.json")
    assert told.returncode == 1
    assert 'tenant "busy"' in told.stdout


@pytest.mark.slow
def test_a_ring_that_is_not_the_databases_is_refused(drill):
    other = drill.place.directory / "other.json"
    told = drill.place.run(
        f"stepup keys generate --output {other}\n"
        f"STEPUP_STORAGE__KEYS_FILE={other} {drill.place.stepup.format('keys status')}"
    )
    assert told.returncode == 2
    assert "the ring lacks keys that seal secrets" in told.stderr
