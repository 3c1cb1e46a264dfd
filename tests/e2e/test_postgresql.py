"""On PostgreSQL a server wants the right schema and survives the loss of its database (S17)."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.e2e.verifiers import (
    LATEST_SECONDS,
    OUTCOMES,
    SECRET,
    TENANT,
    USERS,
    Load,
    recorded_verifications,
)
from stepup_tests.postgres import PostgresServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
]


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


def test_a_database_that_was_not_migrated_is_not_served(stepup):
    refused = stepup("serve", "--insecure")
    assert refused.returncode == 2
    assert re.fullmatch(
        r"stepup: storage.database_url: the database stepup of PostgreSQL at /.* has no schema of"
        r" stepup: run `stepup migrate`\n",
        refused.stderr,
    )


def test_a_database_of_another_version_is_not_served_nor_migrated(stepup, url):
    assert stepup("migrate").returncode == 0
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    refused = stepup("serve", "--insecure")
    assert refused.returncode == 2
    reason = r"of revision 9999, and this version needs \d{4}: it is of another version"
    assert re.search(reason, refused.stderr)
    assert stepup("migrate").returncode == 2


def test_several_may_migrate_at_once_and_then_a_server_starts(stepup, configuration, tmp_path):
    with ThreadPoolExecutor(3) as threads:
        ends = list(threads.map(lambda _: stepup("migrate").returncode, range(3)))
    assert ends == [0, 0, 0]
    with serving(tmp_path, "--config", str(configuration)) as server:
        assert server.is_running


EXPANDED = (
    "ALTER TABLE authenticators ADD COLUMN hint varchar",
    "ALTER TABLE audit_events ADD COLUMN origin varchar",
    "CREATE TABLE devices (tenant_id varchar PRIMARY KEY)",
    "UPDATE alembic_version SET version_num = '9999'",
)


def test_a_server_that_runs_goes_on_while_the_schema_grows(stepup, url, load):
    for statement in EXPANDED:
        execute(url, statement)
    load.go_on()
    load.end()
    assert set(load.outcomes) <= OUTCOMES
    # But it does not start any more.
    assert stepup("serve", "--insecure").returncode == 2


@pytest.fixture
def load(stepup, configuration, url, tmp_path):
    """A server on the database, and callers of it."""
    assert stepup("migrate").returncode == 0
    with serving(tmp_path, "--config", str(configuration)) as server:
        enrolled(server, TENANT, dict.fromkeys(USERS, SECRET), url)
        with Load(server.address) as load:
            load.go_on()
            yield load


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
        load.wait_for(8, "UNAVAILABLE")
    finally:
        regain()
    load.go_on()
    load.end()
    assert load.slowest < LATEST_SECONDS
    assert set(load.outcomes) <= {"UNAVAILABLE", *OUTCOMES}
    assert max(load.verified.values()) == 1

    recorded = recorded_verifications(url)
    assert max(recorded.values()) == 1
    assert recorded.keys() >= (+load.verified).keys()
    proven = stepup("audit", "verify")
    assert proven.returncode == 0, proven.stdout
