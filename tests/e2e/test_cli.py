"""The commands, and what their configuration does."""

import sqlite3
from pathlib import Path
from stat import S_IMODE
from tempfile import TemporaryDirectory

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import administrator, person, protect, verdict
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.topologies import EMBEDDED

from stepup.client import connect
from stepup.client.messages import policy

pytestmark = pytest.mark.e2e

PASSWORD = "correct-horse"  # must not be shown
TRIAL = "[server]\ninsecure = true\n"
WITHOUT_CREDENTIALS = "stepup: server.insecure: callers have no credentials: "
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


def test_a_good_configuration_is_shown(stepup):
    shown = stepup("check-config", toml=TRIAL + '[verification]\nissuer = "Acme"\n')
    assert shown.returncode == 0
    assert "verification.issuer = Acme" in shown.stdout


@pytest.mark.parametrize(
    "toml",
    [
        f'{TRIAL}[storage]\nredis_url = "redis://stepup:{PASSWORD}@redis.example:6379/0"\n',
        (
            '[[token_issuers]]\nissuer = "https://issuer.example"\naudiences = ["stepup"]\n'
            f'jwks_url = "https://issuer.example/jwks?key={PASSWORD}"\n'
        ),
    ],
    ids=["Redis", "JWKS"],
)
def test_s11_urls_are_not_shown(stepup, toml):
    shown = stepup("check-config", toml=toml)
    assert shown.returncode == 0
    assert "_url = ****" in shown.stdout
    assert PASSWORD not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("toml", "field"),
    [
        ("[server]\nlisten_on = 'x'\n", "server.listen_on"),
        ("[sever]\n", "sever"),
        ("[server]\nlisten = 'no port'\n", "server.listen"),
        ("[server]\nlisten = '127.0.0.1:99999'\n", "server.listen"),
        ("[verification]\nback_steps = 2\n", "verification.back_steps"),
        ("[verification]\nissuer = 'a:b'\n", "verification.issuer"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("[[catalogue.operations]]\nid = 'nowhere.x'\ntitle = 'X'\n", "catalogue"),
        ("[[catalogue.operations]]\nid = 'No Id'\ntitle = 'X'\n", "catalogue.operations.0.id"),
        (f"[storage]\ndatabase_url = 'mysql://u:{PASSWORD}@h/d'\n", "storage.database_url"),
        (f"[storage]\nredis_url = 'http://u:{PASSWORD}@h'\n", "storage.redis_url"),
        ("[server\n", "stepup.toml"),
    ],
)
def test_what_is_wrong_is_named(stepup, toml, field):
    refused = stepup("check-config", toml=toml)
    assert refused.returncode == 2
    assert refused.stderr.startswith("stepup: ")
    assert f"{field}: " in refused.stderr
    assert PASSWORD not in refused.stdout + refused.stderr


def test_every_problem_has_its_line(stepup):
    refused = stepup("check-config", toml="[log]\nlevel = 'loud'\nformat = 'xml'\n")
    assert [line.split(": ")[-2] for line in refused.stderr.splitlines()] == [
        "log.level",
        "log.format",
    ]


def test_the_environment_wins_over_the_file(stepup):
    shown = stepup(
        "check-config", toml='[verification]\nissuer = "File"\n', VERIFICATION__ISSUER="Environment"
    )
    assert "verification.issuer = Environment" in shown.stdout


def test_a_flag_wins_over_the_environment(stepup):
    shown = stepup(
        "check-config",
        *("--data-dir", "/flag"),
        toml='[storage]\ndata_dir = "/file"\n',
        STORAGE__DATA_DIR="/environment",
    )
    assert "storage.data_dir = /flag" in shown.stdout


def test_the_file_can_be_named_in_the_environment(tmp_path):
    file = tmp_path / "stepup.toml"
    file.write_text('[verification]\nissuer = "Acme"\n')
    shown = run([PROGRAMS / "stepup", "check-config"], tmp_path, {"STEPUP_CONFIG": str(file)})
    assert "verification.issuer = Acme" in shown.stdout


def test_a_missing_file_is_refused(tmp_path):
    refused = run([PROGRAMS / "stepup", "check-config", "--config", "missing.toml"], tmp_path)
    assert refused.returncode == 2
    assert "missing.toml" in refused.stderr


@pytest.mark.topologies(EMBEDDED, reason="what is embedded is migrated at the start as well")
def test_migrate_makes_a_database_that_a_server_takes(stepup, start_server, tmp_path):
    migrated = stepup("migrate", "--data-dir", tmp_path / "data")
    assert migrated.returncode == 0
    with_tables = sqlite3.connect(tmp_path / "data" / "stepup.db")
    try:
        assert with_tables.execute("SELECT count(*) FROM policies").fetchone() == (0,)
    finally:
        with_tables.close()
    assert start_server().is_running


def test_migrating_twice_changes_nothing(stepup, tmp_path):
    arguments = ("migrate", "--data-dir", tmp_path / "data")
    assert [stepup(*arguments).returncode for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_only_loopback_is_listened_on(stepup, tmp_path, address):
    data_dir = ("--data-dir", tmp_path / "data")
    refused = stepup("serve", "--insecure", "--listen", address, *data_dir)
    assert refused.returncode == 2
    assert refused.stderr.startswith("stepup: server.listen: ")
    assert "is not a loopback address" in refused.stderr


def test_s15_callers_without_credentials_are_served_only_if_that_is_wanted(stepup, tmp_path):
    refused = stepup("serve", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data")
    assert refused.returncode == 2
    assert refused.stderr.startswith(WITHOUT_CREDENTIALS)
    assert "tls or token_issuers" in refused.stderr
    assert "--insecure" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("toml", [TRIAL, ""], ids=["file", "environment"])
def test_a_trial_may_be_configured_as_well(stepup, toml):
    variables = {} if toml else {"SERVER__INSECURE": "true"}
    assert stepup("check-config", toml=toml, **variables).returncode == 0


def test_s15_checking_says_what_serving_would(stepup):
    checked = stepup("check-config")
    assert checked.returncode == 2
    assert "server.insecure = False" in checked.stdout
    assert checked.stderr.startswith(WITHOUT_CREDENTIALS)


@pytest.mark.parametrize(("back_steps", "is_said"), [(0, False), (1, True)])
def test_s1_that_codes_of_the_step_before_are_accepted_is_said(
    start_server, tmp_path, back_steps, is_said
):
    (tmp_path / "steps.toml").write_text(f"[verification]\nback_steps = {back_steps}\n")
    server = start_server("--config", f"{tmp_path}/steps.toml")
    said = "codes_of_the_step_before_are_accepted" in server.stderr.read_text()
    assert said is is_said


def test_s15_a_trial_is_loud(server):
    assert '"callers_are_not_authenticated"' in server.stderr.read_text()


TRUSTING = "[server]\ninsecure_anyone_on_the_network_is_trusted = true\n"


def test_s15_everybody_on_the_network_is_trusted_only_if_that_is_wanted_and_loudly(
    stepup, start_server, tmp_path
):
    checked = stepup("check-config", toml=TRUSTING)
    assert checked.returncode == 0
    assert "stepup: warning: server.insecure_anyone_on_the_network" in checked.stderr
    far = '[storage]\nredis_url = "rediss://8.8.8.8"\n'
    assert "storage.redis_url" in stepup("check-config", toml=TRUSTING + far).stderr
    (tmp_path / "trusting.toml").write_text(TRUSTING)
    server = start_server("--config", f"{tmp_path}/trusting.toml")
    [line] = server.logged("callers_are_not_authenticated")
    assert "insecure_anyone_on_the_network_is_trusted" in line["explanation"]


def test_s25_stores_in_plain_text_are_warned_of(stepup):
    toml = TRIAL + '[storage]\nredis_url = "redis://10.0.0.7"\n'
    toml += 'database_url = "postgresql://stepup:hunter2@10.0.0.7/stepup"\n'
    checked = stepup("check-config", toml=toml)
    assert checked.returncode == 0
    for setting in ("storage.redis_url", "storage.database_url"):
        assert f"stepup: warning: {setting}: connections over the network are not" in checked.stderr
    assert "hunter2" not in checked.stderr


def test_a_port_that_is_taken_is_named(stepup, shared_server, tmp_path):
    address = shared_server.address
    data_dir = ("--data-dir", tmp_path / "data")
    refused = stepup("serve", "--insecure", "--listen", address, *data_dir)
    assert refused.returncode == 2
    assert f"stepup: server.listen: cannot listen on {address}" in refused.stderr


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_data_directory_that_cannot_be_made_is_named(stepup, tmp_path, command):
    (tmp_path / "file").touch()
    refused = stepup(command, "--data-dir", tmp_path / "file" / "data", toml=TRIAL)
    assert refused.returncode == 2
    assert refused.stderr.startswith("stepup: storage.data_dir: ")


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_file_that_is_no_database_is_refused_without_a_stack(stepup, tmp_path, command):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "stepup.db").write_text("this is no database " * 100)
    refused = stepup(command, "--data-dir", tmp_path / "data", toml=TRIAL)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_a_key_ring_that_others_can_read_is_refused(stepup, tmp_path):
    (tmp_path / "keys.json").write_text("{}")
    (tmp_path / "keys.json").chmod(0o644)
    refused = stepup(
        "serve",
        "--insecure",
        *("--listen", "127.0.0.1:0"),
        *("--data-dir", tmp_path / "data"),
        STORAGE__KEYS_FILE=str(tmp_path / "keys.json"),
    )
    assert refused.returncode == 2
    assert "storage.keys_file: " in refused.stderr


@pytest.fixture
def extended(start_server, tmp_path):
    """A client of a server with an extended catalogue."""
    file = tmp_path / "catalogue.toml"
    file.write_text(CONTAINMENT)
    return GrpCurl(start_server("--config", str(file)))


def test_added_operations_are_listed_in_their_categories(extended):
    categories = extended.call("PolicyService/ListOperations")["categories"]
    listed = {
        category["id"]: [operation["id"] for operation in category["operations"]]
        for category in categories
    }
    assert listed["containment"] == ["containment.isolate_segment"]
    assert "response.kill_process" in listed["response"]


def test_added_operations_are_enforced(extended, tenant):
    protect(extended, administrator(tenant), "containment.isolate_segment")
    assert verdict(extended, person(tenant, "bob"), "containment.isolate_segment") == (
        "ENROLLMENT_REQUIRED",
        "NOT_ENROLLED",
    )


def test_added_response_actions_of_managed_services_are_exempt(extended, tenant):
    protect(extended, administrator(tenant), "response.kill_process")
    olga = person(tenant, "olga", team="TEAM_MANAGED_SERVICES_OPERATIONS")
    assert verdict(extended, olga, "response.kill_process") == (
        "ALLOWED",
        "EXEMPT_MANAGED_SERVICES",
    )


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
