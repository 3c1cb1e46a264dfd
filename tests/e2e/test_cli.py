"""The commands, and what their configuration does."""

from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.guarded import configured
from stepup_tests.e2e.people import administrator, person, protect, verdict
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import DIRECT, EMBEDDED
from stepup_tests.stubs import connect

from stepup.client.messages import policy

pytestmark = pytest.mark.e2e

PASSWORD = "correct-horse"  # must not be shown
TRIAL = "[server]\ninsecure = true\n"
COUNT_POLICIES = "SELECT count(*) FROM policies"
CONTAINMENT = """
[[catalogue.categories]]
id = "containment"
title = "Containment"

[[catalogue.operations]]
id = "containment.isolate_segment"
title = "Isolate a network segment"

[[catalogue.operations]]
id = "response.kill_process"
title = "Kill process task"
"""


@pytest.fixture
def stepup(tmp_path):
    """Runs a command with a configuration."""

    def command(*arguments, toml="", **settings):
        file = tmp_path / "stepup.toml"
        file.write_text(toml)
        arguments = [PROGRAMS / "stepup", *arguments, "--config", file]
        return run(
            arguments, tmp_path, {f"STEPUP_{name}": value for name, value in settings.items()}
        )

    return command


def refuses(command, line):
    """Demand that a command ended with status 2, and says why on one line that begins so."""
    assert command.returncode == 2
    assert "Traceback" not in command.stderr
    said = [line for line in command.stderr.splitlines() if line.startswith("stepup: ")]
    assert len(said) == 1, said
    assert said[0].startswith(f"stepup: {line}")


def test_the_configuration_in_effect_is_shown_and_where_it_comes_from_counts(stepup):
    shown = stepup(
        "check-config",
        *("--data-dir", "/flag"),
        toml=f'{TRIAL}[verification]\nissuer = "File"\n[storage]\ndata_dir = "/file"\n',
        VERIFICATION__ISSUER="Environment",
        STORAGE__DATA_DIR="/environment",
    )
    assert shown.returncode == 0
    assert "verification.issuer = Environment" in shown.stdout
    assert "storage.data_dir = /flag" in shown.stdout


def test_s11_urls_are_not_shown(stepup):
    shown = stepup(
        "check-config",
        toml='[[token_issuers]]\nissuer = "https://issuer.example"\naudiences = ["stepup"]\n'
        f'jwks_url = "https://issuer.example/jwks?key={PASSWORD}"\n'
        f'[storage]\nredis_url = "redis://stepup:{PASSWORD}@redis.example:6379/0"\n',
    )
    assert shown.returncode == 0
    assert shown.stdout.count("_url = ****") == 2
    assert PASSWORD not in shown.stdout + shown.stderr


def test_every_problem_has_its_line_and_no_line_a_password(stepup):
    refused = stepup(
        "check-config",
        toml=f"[log]\nlevel = 'loud'\n[storage]\ndatabase_url = 'mysql://u:{PASSWORD}@h/d'\n",
    )
    assert refused.returncode == 2
    named = [line.removeprefix("stepup: ").split(": ")[0] for line in refused.stderr.splitlines()]
    assert named == ["storage.database_url", "log.level"]
    assert PASSWORD not in refused.stdout + refused.stderr


@pytest.mark.topologies(EMBEDDED, reason="what is embedded is migrated at the start as well")
def test_migrate_makes_a_database_that_a_server_takes_and_twice_is_as_good(
    stepup, start_server, tmp_path
):
    arguments = ("migrate", "--data-dir", tmp_path / "data")
    assert [stepup(*arguments).returncode for _ in range(2)] == [0, 0]
    assert execute(f"sqlite+aiosqlite:///{tmp_path}/data/stepup.db", COUNT_POLICIES) == [(0,)]
    assert start_server().is_running


def test_only_loopback_is_listened_on(stepup, tmp_path):
    data_dir = ("--data-dir", tmp_path / "data")
    refused = stepup("serve", "--insecure", "--listen", "0.0.0.0:0", *data_dir)
    refuses(refused, "server.listen: ")
    assert "is not a loopback address" in refused.stderr


def test_s15_callers_without_credentials_are_served_only_if_that_is_wanted(stepup, tmp_path):
    for command in (
        stepup("serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data"),
        stepup("check-config"),
    ):
        refuses(command, "server.insecure: callers have no credentials: ")
        assert "tls or token_issuers" in command.stderr
        assert "--insecure" in command.stderr
    assert "server.insecure = False" in command.stdout
    assert not (tmp_path / "data").exists()


def test_s1_that_codes_of_the_step_before_are_accepted_is_said(
    shared_server, start_server, tmp_path
):
    event = "codes_of_the_step_before_are_accepted"
    assert not shared_server.logged(event)
    assert start_server(*configured(tmp_path, "[verification]\nback_steps = 1")).logged(event)


def test_s15_a_trial_is_loud(shared_server):
    assert shared_server.logged("callers_are_not_authenticated")


@pytest.mark.topologies(*DIRECT, reason="there are two workers, and each says so")
def test_s15_everybody_on_the_network_is_trusted_only_if_that_is_wanted_and_loudly(
    stepup, start_server, tmp_path
):
    trusting = "[server]\ninsecure_anyone_on_the_network_is_trusted = true\n"
    checked = stepup("check-config", toml=trusting)
    assert checked.returncode == 0
    assert "stepup: warning: server.insecure_anyone_on_the_network" in checked.stderr
    server = start_server(*configured(tmp_path, trusting))
    [line] = server.logged("callers_are_not_authenticated")
    assert "insecure_anyone_on_the_network_is_trusted" in line["explanation"]


def test_s25_stores_in_plain_text_are_warned_of(stepup):
    toml = TRIAL + '[storage]\nredis_url = "redis://10.0.0.7"\n'
    toml += f'database_url = "postgresql://stepup:{PASSWORD}@10.0.0.7/stepup"\n'
    checked = stepup("check-config", toml=toml)
    assert checked.returncode == 0
    for setting in ("storage.redis_url", "storage.database_url"):
        assert f"stepup: warning: {setting}: connections over the network are not" in checked.stderr
    assert PASSWORD not in checked.stderr


def test_a_port_that_is_taken_is_named(stepup, shared_server, tmp_path):
    data_dir = ("--data-dir", tmp_path / "data")
    refused = stepup("serve", "--insecure", "--listen", shared_server.address, *data_dir)
    refuses(refused, f"server.listen: cannot listen on {shared_server.address}")


def test_a_data_directory_that_cannot_be_made_is_named(stepup, tmp_path):
    (tmp_path / "file").touch()
    refuses(stepup("migrate", "--data-dir", tmp_path / "file" / "data"), "storage.data_dir: ")


def test_a_file_that_is_no_database_is_refused_without_a_stack(stepup, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stepup.db").write_text("this is no database " * 100)
    refuses(stepup("serve", "--data-dir", tmp_path / "data", toml=TRIAL), "")


def test_added_operations_are_listed_in_their_categories_and_enforced(
    start_server, tmp_path, tenant
):
    client = GrpCurl(start_server(*configured(tmp_path, CONTAINMENT)))
    categories = client.call("PolicyService/ListOperations")["categories"]
    listed = {
        each["id"]: [operation["id"] for operation in each["operations"]] for each in categories
    }
    assert listed["containment"] == ["containment.isolate_segment"]
    assert "response.kill_process" in listed["response"]

    protect(client, administrator(tenant), "containment.isolate_segment", "response.kill_process")
    olga = person(tenant, "olga", team="TEAM_MANAGED_SERVICES_OPERATIONS")
    assert verdict(client, olga, "containment.isolate_segment")[0] == "ENROLLMENT_REQUIRED"
    assert verdict(client, olga, "response.kill_process") == ("ALLOWED", "EXEMPT_MANAGED_SERVICES")


@pytest.mark.topologies(EMBEDDED, reason="where it listens has nothing to do with its stores")
def test_a_server_on_a_unix_socket_serves_again_after_it_was_killed(start_server):
    """Its socket is left behind; `stepup.client` takes the address as the server says it."""
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "stepup.sock"
        server = start_server("--listen", f"unix:{socket}")
        server.kill()
        assert socket.is_socket()
        server.start()
        assert server.address == f"unix:{socket}"
        assert S_IMODE(socket.stat().st_mode) == 0o600
        with connect(server.address) as client:
            client.policy.ListOperations(policy.ListOperationsRequest(), timeout=10)
        assert server.terminate() == 0
        assert not socket.exists()
