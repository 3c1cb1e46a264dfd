"""S14: a server does the whole main job with a role that cannot change the audit trail."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, person, protect, verdict
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.postgres import PostgresServer
from stepup_tests.roles import SERVES, empty_database_with_roles

from stepup.service.upkeep.housekeeping import Housekeeping
from stepup.stores.sql import SqlDatabase

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has a database of its own"),
]


@pytest.fixture(scope="module")
def urls():
    with PostgresServer() as server, empty_database_with_roles(server) as urls:
        yield urls


@pytest.fixture
def stepup(urls, tmp_path):
    """Runs a command as the role that serves."""
    (tmp_path / "stepup.toml").write_text(f'[storage]\ndatabase_url = "{urls.serves}"\n')

    def stepup(*command, **settings):
        arguments = ("--config", "stepup.toml", "--data-dir", "data")
        done = run([PROGRAMS / "stepup", *command, *arguments], tmp_path, settings)
        assert not done.returncode, done.stderr
        return done.stdout

    return stepup


async def keep_house(url):
    database = SqlDatabase(url)
    await Housekeeping(database)(datetime.now(UTC) + timedelta(days=1))
    await database.close()


def test_s14_the_main_job_is_done_by_the_role_that_serves(urls, stepup, tmp_path):
    stepup("migrate", "--grant-to", SERVES, STEPUP_STORAGE__DATABASE_URL=urls.migrates)
    configuration = ("--config", str(tmp_path / "stepup.toml"))
    with serving(tmp_path, *configuration) as server:
        client, ada, bob = GrpCurl(server), administrator("acme"), person("acme", "bob")
        protect(client, ada, OSQUERY)
        enrol(client, bob)
        assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
        wrong = {"actor": bob | {"session_id": "bob-2"}, "code": "000000"}
        assert client.call("StepUpService/VerifyOtp", wrong)["outcome"] != "OUTCOME_VERIFIED"
        client.call(
            "StepUpService/RevokeElevations", {"actor": bob, "scope": "REVOCATION_SCOPE_SESSION"}
        )
        assert verdict(client, bob, OSQUERY)[0] == "STEP_UP_REQUIRED"
        stepup("keys", "rotate", "--wait", "0")
        stepup("audit", "verify")
    # What a server does once a minute; it raises if it may not.
    asyncio.run(keep_house(urls.serves))
