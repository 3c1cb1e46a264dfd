"""A deployment that says, after a while, that its ids are not case-sensitive."""

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import OSQUERY, administrator, begin, enrol, person, protect, verdict
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="the refused server is started on embedded stores"),
]

FOLDING = "[identity]\nfold_case = true\n"


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "folding.toml"
    file.write_text("")
    return file


@pytest.fixture
def server(start_server, config):
    return start_server("--config", config)


def refusal(server, config):
    """What a server that does not start says."""
    command = (PROGRAMS / "stepup", "serve", "--insecure", "--listen", "127.0.0.1:0")
    refused = run((*command, "--data-dir", server.data_dir, "--config", config), config.parent)
    assert refused.returncode == 2
    return refused.stderr


def test_s17_a_server_that_does_not_fold_ids_any_more_decides_nothing(server, config):
    """It would find no policy of `Acme`, and allow everything."""
    client = GrpCurl(server)
    protect(client, administrator("Acme"), OSQUERY)
    enrol(client, person("Acme", "Bob"))
    assert verdict(client, person("acme", "bob"), OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")
    config.write_text(FOLDING)
    server.restart()
    for tenant, user in (("acme", "bob"), ("Acme", "Bob"), ("ACME", "BOB")):
        actor = person(tenant, user)
        assert verdict(client, actor, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    enrol(client, person("ACME", "Eve"))
    assert verdict(client, person("acme", "eve", "Monday"), OSQUERY)[0] == "STEP_UP_REQUIRED"

    server.kill()
    config.write_text("")
    differs = "identity.fold_case differs from the database, whose ids are folded"
    assert differs in refusal(server, config)


def test_ids_that_would_collide_keep_a_server_from_starting(server, config):
    client = GrpCurl(server)
    for user in ("bob", "Bob"):
        begin(client, person("acme", user))
    server.kill()
    config.write_text(FOLDING)
    assert "identity.fold_case: the users 'Bob' and 'bob'" in refusal(server, config)
