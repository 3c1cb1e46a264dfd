"""docs/oncall.md: each question of an operator's day, by the one command that the page names."""

import re
import shlex
from datetime import UTC, datetime

import pytest
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.places import ROOT
from stepup_tests.valkey_server import wait_until
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.client import Allowed, EnrollmentRequired, StepUpRequired, Verified
from stepup.client.messages import actor
from stepup.client.testing.server import running_server

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it is about commands"),
]

PAGE = (ROOT / "docs" / "oncall.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
[POLICY] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
OSQUERY = "response.run_osquery"


class Day:
    """A server with its decision log, and the commands of the page against both."""

    def __init__(self, server, directory):
        self.server = server
        self.directory = directory

    def run(self, *begin, **changed):
        """Run the page's command that begins so, with other values of some of its words."""
        [command] = [each for each in COMMANDS if each[: len(begin)] == list(begin)]
        result = CliRunner().invoke(app, [changed.get(word, word) for word in command])
        assert result.exit_code in (0, 1), result.output
        return result

    def person(self, user, **fields):
        return actor.ActorContext(
            tenant_id="acme",
            user_id=user,
            session_id=f"session-of-{user}",
            account_type=actor.ACCOUNT_TYPE_LOCAL,
            role=actor.ROLE_OTHER,
            **fields,
        )

    def check(self, person, operation=OSQUERY):
        return type(self.server.stepup.check(person, operation, target="host-7"))


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    directory = tmp_path_factory.mktemp("day")
    log = directory / "decisions.jsonl"
    (directory / "policy.yaml").write_text(POLICY)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_server(STEPUP_LOG__DECISIONS=str(log)) as server,
    ):
        (directory / "ctl.toml").write_text(
            'default = "acme"\n[profiles.acme]\n'
            f'address = "{server.target}"\ninsecure = true\ntenant = "acme"\noperator = "sam"\n'
        )
        patch.chdir(directory)
        patch.setenv("STEPUP_CTL_CONFIG", str(directory / "ctl.toml"))
        patch.setenv("STEPUP_DECISION_LOGS", str(log))
        yield Day(server, directory)


def test_the_page_leads_through_the_day(day: Day):
    done = day.run("ctl", "policy", "set")
    assert done.exit_code == 0
    policy = day.server.stepup.policy.get(tenant_id="acme").policy
    assert (policy.enabled, len(policy.operations)) == (True, 6)

    bob = day.server.enrol(day.person("bob"))
    assert day.check(bob.actor) is StepUpRequired
    prompted_at = datetime.now(UTC)
    assert isinstance(day.server.stepup.verify(bob.actor, bob.code()), Verified)
    assert day.check(bob.actor) is Allowed
    analyst = day.person("analyst", team=actor.TEAM_MANAGED_SERVICES_OPERATIONS)
    assert day.check(analyst) is Allowed
    assert day.check(day.person("carol")) is EnrollmentRequired

    told = day.run("decisions", "why", **{"10:05": f"{prompted_at:%Y-%m-%dT%H:%M:%SZ}"}).stdout
    assert OSQUERY in told
    assert "not_elevated" in told
    told = day.run("ctl", "check")
    assert (told.exit_code, "not_elevated" in told.stdout.lower()) == (1, True)

    told = day.run("decisions", "stats").stdout
    assert "exempt_managed_services" in told

    told = day.run("coverage")
    assert (told.exit_code, "response.start_remote_shell" in told.stdout) == (1, True)

    assert day.check(day.person("dave"), "response.run_yara_rules") is Allowed
    told = day.run("policy", "simulate").stdout
    assert "under policy.yaml with 3 more operations" in told
    assert "added: 1 prompt, for 1 person" in told

    # A server records asked people within a moment.
    wait_until(lambda: "carol" in day.run("ctl", "people", "list").stdout, "carol is listed")

    assert day.run("ctl", "people", "reset").exit_code == 0
    assert day.check(bob.actor) is EnrollmentRequired

    told = day.run("ctl", "audit", "list").stdout
    assert "policy_changed_by_operator" in told
    assert "authenticator_reset_by_operator" in told


def test_no_command_is_only_on_the_page():
    played = {"policy set", "decisions why", "ctl check", "decisions stats", "people list"}
    played |= {"people reset", "audit list", "coverage --policy", "policy simulate"}
    assert {
        " ".join(each[1:3]) if each[0] == "ctl" and each[1] != "check" else " ".join(each[:2])
        for each in COMMANDS
    } == played
