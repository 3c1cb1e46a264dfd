"""A hangup (SIGHUP): the rules of callers change while a server serves."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from stepup_tests.e2e.guarded import ISSUER, TokenIssuer
from stepup_tests.e2e.guarded import configured as configuration
from stepup_tests.e2e.metrics import LISTEN, metrics
from stepup_tests.e2e.processes import (
    PROGRAMS,
    ServerProcess,
    environment,
    eventually,
    processes_in,
)
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT, EmbeddedSite
from stepup_tests.stubs import connect, reason

from stepup.client.messages import actor as people
from stepup.client.messages import step_up

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="hangups of one process are followed in its log"),
]

PASSWORD = "correct-horse"  # must not be shown
REQUEST = step_up.CheckStepUpRequest(
    actor=people.ActorContext(tenant_id="acme", user_id="bob", session_id="monday"),
    operation="response.run_osquery",
)
RULES = f"""
[[callers]]
name = "soar"
identities = ["jwt:{ISSUER}#soar"]
[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["acme"]
operations = ["response.run_osquery"]
"""
OTHER_RULES = RULES.replace("run_osquery", "run_script")
BROKEN = {
    "no TOML": RULES + "[[callers",
    "unknown setting": RULES + f'rate_of_change = "{PASSWORD}"\n',
    "a bad rule": RULES.replace('["acme"]', f'["a*{PASSWORD}"]'),
    "an identity that stands twice": RULES + RULES.replace('"soar"', '"console"'),
    "callers who have no credentials": None,
}


@dataclass
class Configured:
    """A server whose callers have tokens, and its configuration file."""

    server: ServerProcess
    file: Path
    issuer: str

    def write(self, rules):
        """Change the file at once, as one should; None takes the credentials out."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(RULES if rules is None else self.issuer + rules)
        fresh.replace(self.file)

    def reload(self):
        """Hang up, and wait until it has had its effect; returns the line of the log."""
        events = ("configuration_reloaded", "configuration_not_reloaded")
        before = sum(len(self.server.logged(event)) for event in events)

        def line():
            lines = [line for event in events for line in self.server.logged(event)]
            return len(lines) > before and max(lines, key=lambda line: line["timestamp"])

        self.server.hang_up()
        return eventually(line, "the server has reloaded, or says why not")

    def failures(self):
        """How many reloads have failed, by the metric."""
        return metrics(self.server)["stepup_configuration_reload_failures_total",]


@pytest.fixture(scope="module")
def issuer():
    return TokenIssuer()


@pytest.fixture(scope="module")
def started(tmp_path_factory, issuer):
    directory = tmp_path_factory.mktemp("reload")
    parts = f"{LISTEN}\n{issuer.trusted(directory)}\n"
    with serving(directory, *configuration(directory, parts, RULES), insecure=False) as server:
        yield Configured(server, directory / "stepup.toml", parts)


@pytest.fixture
def configured(started):
    """The server of all tests that leave it running, with the rules that it began with."""
    started.write(RULES)
    assert started.reload()["callers"] == 1
    return started


@pytest.fixture
def asked(configured, issuer):
    """Asks on one channel, again and again: OK, or for what reason not."""
    metadata = [("authorization", f"Bearer {issuer.token()}")]
    before = len(configured.server.logged("call"))
    calls = 0
    with connect(configured.server.address) as client:

        def ask():
            nonlocal calls
            calls += 1
            try:
                client.step_up.CheckStepUp(REQUEST, timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                return error.code().name, reason(error)
            return "OK", ""

        yield ask

    def lines():
        return configured.server.logged("call")[before:]

    # A line follows its answer. Had it been another connection that was refused, it would have
    # come from another port.
    eventually(lambda: len(lines()) == calls, "each call has its line")
    assert len({line["peer"] for line in lines()}) == 1


DENIED = ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED")


def test_s15_a_permission_is_taken_and_given_back_while_the_channel_is_open(configured, asked):
    assert asked() == ("OK", "")
    configured.write(OTHER_RULES)
    assert asked() == ("OK", "")
    assert configured.reload()["callers"] == 1
    assert asked() == DENIED
    configured.write(RULES)
    configured.reload()
    assert asked() == ("OK", "")


def test_s15_a_caller_that_is_taken_out_is_let_in_no_more(configured, asked):
    configured.write("")
    assert configured.reload()["callers"] == 0
    assert asked() == DENIED


@pytest.mark.parametrize("rules", BROKEN.values(), ids=BROKEN)
def test_s15_a_broken_file_changes_nothing_and_is_counted(configured, asked, rules):
    failures = configured.failures()
    configured.write(rules)
    line = configured.reload()
    assert (line["event"], line["level"]) == ("configuration_not_reloaded", "error")
    assert line["problems"]
    assert PASSWORD not in configured.server.stderr.read_text()
    assert configured.failures() == failures + 1
    assert asked() == ("OK", "")


def test_a_file_that_is_gone_changes_nothing_and_the_next_one_is_taken(configured, asked):
    configured.file.unlink()
    assert configured.reload()["problems"] == [f"{configured.file}: no such file"]
    assert asked() == ("OK", "")
    configured.write(OTHER_RULES)
    configured.reload()
    assert asked() == DENIED


def test_what_needs_a_restart_is_named_and_the_callers_change_nevertheless(configured, asked):
    configured.write(f'[log]\nlevel = "error"\n[server]\ndrain_seconds = 1\n{OTHER_RULES}')
    configured.reload()
    [line] = configured.server.logged("changes_need_a_restart")
    assert line["sections"] == ["server", "log"]
    assert asked() == DENIED
    configured.write(RULES)
    configured.reload()
    assert len(configured.server.logged("changes_need_a_restart")) == 1


def test_the_decision_log_is_opened_anew_even_if_the_file_is_broken(configured, asked):
    asked()
    log = configured.server.data_dir / "decisions.jsonl"
    log.rename(log.with_suffix(".1"))
    configured.write("broken")
    configured.reload()
    assert log.read_bytes() == b""
    asked()
    assert len(log.read_text().splitlines()) == 1


def test_many_hangups_in_a_row_end_nothing(configured, asked):
    for _ in range(20):
        configured.server.hang_up()
    configured.write(OTHER_RULES)
    configured.reload()
    eventually(lambda: asked() == DENIED, "the last hangup takes effect")
    assert configured.server.is_running


def is_held_back(pid):
    """Whether a process has hangups blocked."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    [mask] = [line.split()[1] for line in status if line.startswith("SigBlk:")]
    return int(mask, 16) & 1


def test_a_hangup_during_the_start_of_a_trial_without_a_file_takes_effect_after_it(tmp_path):
    server = ServerProcess(tmp_path, tmp_path, site=EmbeddedSite(tmp_path))
    pid = server.launch()
    try:
        eventually(lambda: is_held_back(pid), "the server holds hangups back")
        server.hang_up()
        [line] = eventually(lambda: server.logged("configuration_reloaded"), "it has reloaded")
        assert line["callers"] == 0
        assert not server.logged("changes_need_a_restart")
        assert server.terminate() == 0
    finally:
        server.close()


def test_who_hangs_up_on_the_demo_leaves_no_server_behind(tmp_path):
    demo = subprocess.Popen(
        [PROGRAMS / "stepup", "demo"],
        cwd=tmp_path,
        env=environment(tmp_path, tmp_path),
        stdout=subprocess.PIPE,
    )
    try:
        with demo:
            assert b"A server process listens" in demo.stdout.readline()
            assert processes_in(tmp_path)
            demo.send_signal(signal.SIGHUP)
        eventually(lambda: not processes_in(tmp_path), "the server has ended")
    finally:
        demo.kill()
        for pid in processes_in(tmp_path):
            os.kill(pid, signal.SIGKILL)
