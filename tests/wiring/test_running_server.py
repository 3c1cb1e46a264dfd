"""What may change while a server runs, and what leaves it as it is."""

import pytest
import structlog

from stepup.settings import ConfigurationError, load
from stepup.stores.decision_log import JsonLinesDecisionLog
from stepup.wiring.running_server import RunningServer

CREDENTIALS = {
    "token_issuers": [{"issuer": "i", "audiences": ["stepup"], "jwks_file": "jwks.json"}]
}
SOAR = {"name": "soar", "identities": ["jwt:i#soar"]}


@pytest.fixture
def decision_log(tmp_path):
    log = JsonLinesDecisionLog.open(tmp_path / "decisions.jsonl")
    yield log
    log.close()


@pytest.fixture
def guarded(decision_log):
    """A server with credentials, and the callers that were put into effect."""
    replaced = []
    server = RunningServer("127.0.0.1:1", load(**CREDENTIALS), replaced.append, decision_log, bool)
    return server, replaced


@pytest.fixture
def trial(decision_log):
    return RunningServer("127.0.0.1:1", load(server={"insecure": True}), None, decision_log, bool)


def reloaded(running, **flags):
    """The lines of the log."""
    with structlog.testing.capture_logs() as lines:
        running.reload(load(**flags))
    return lines


def test_s15_callers_are_put_into_effect(guarded):
    server, replaced = guarded
    [line] = reloaded(server, **CREDENTIALS, callers=[SOAR])
    assert (line["event"], line["callers"]) == ("configuration_reloaded", 1)
    [callers] = replaced
    assert callers.named("soar").identities == {"jwt:i#soar"}


def test_what_needs_a_restart_is_named_without_values(guarded):
    server, _ = guarded
    flags = CREDENTIALS | {"metrics": {"listen": "127.0.0.1:1"}, "log": {"level": "error"}}
    _, line = reloaded(server, **flags)
    assert line == {
        "event": "changes_need_a_restart",
        "log_level": "warning",
        "sections": ["log", "metrics"],
    }


@pytest.mark.parametrize(
    "flags",
    [{}, CREDENTIALS | {"server": {"insecure": True}}],
    ids=["without credentials", "with both"],
)
def test_s15_settings_that_no_server_would_start_with_change_nothing(guarded, flags):
    server, replaced = guarded
    with pytest.raises(ConfigurationError, match=r"server\.insecure"):
        server.reload(load(**flags))
    assert replaced == []


def test_s15_a_trial_does_not_pretend_to_have_rules(trial):
    with pytest.raises(ConfigurationError, match="restart the server"):
        trial.reload(load(**CREDENTIALS, callers=[SOAR]))


def test_a_trial_that_stays_one_is_reloaded(trial):
    [line] = reloaded(trial, server={"insecure": True})
    assert line["callers"] == 0


def test_a_decision_log_that_cannot_be_reopened_is_reported(trial, tmp_path):
    (tmp_path / "decisions.jsonl").rename(tmp_path / "decisions.1")
    (tmp_path / "decisions.jsonl").mkdir()
    with structlog.testing.capture_logs() as lines:
        trial.reopen_decision_log()
    [line] = lines
    assert (line["event"], line["log_level"]) == ("decision_log_not_reopened", "error")


def test_folding_ids_needs_a_restart_and_no_rule_changes_before_it(guarded):
    """Rules that are folded would not fit calls that are not."""
    server, replaced = guarded
    with pytest.raises(ConfigurationError, match=r"identity\.fold_case"):
        reloaded(server, **CREDENTIALS, callers=[SOAR], identity={"fold_case": True})
    assert not replaced
