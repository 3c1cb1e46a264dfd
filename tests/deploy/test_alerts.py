"""The alerts: each has a test that it fires, a runbook, and asks for what a server shows."""

import re

import pytest
import yaml
from stepup_tests.deploy.promql import metrics_of_a_server, problems
from stepup_tests.places import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
GROUPS = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"]: set() for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()


def cases_of(alert):
    """What is expected of an alert: for each test, at each time in order, how many fire."""
    cases = [
        (test, [len(case["exp_alerts"]) for case in test["alert_rule_test"]])
        for test in TESTS
        if test["alert_rule_test"][0]["alertname"] == alert
    ]
    assert all(
        case["alertname"] == alert for test, _ in cases for case in test["alert_rule_test"]
    ), alert
    return cases


def test_prometheus_takes_the_rules(tools):
    checked = tools.run("promtool", "check", "rules", MONITORING / "alerts.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


@pytest.mark.slow
def test_the_alerts_fire_and_end_as_their_tests_say(tools):
    tested = tools.run("promtool", "test", "rules", MONITORING / "alerts_test.yaml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_an_alert_that_never_fires_is_found(tools, tmp_path):
    rules = (MONITORING / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(rules.replace("stepup_workers_serving == 0", "up == 7"))
    tests = [test for test, _ in cases_of("StepUpNoWorkerServes")]
    file = tmp_path / "alerts_test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "tests": tests}))
    tested = tools.run("promtool", "test", "rules", file)
    assert tested.returncode
    assert "alertname: StepUpNoWorkerServes" in tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_tested_to_fire_and_to_end(alert):
    cases = cases_of(alert)
    assert cases
    for test, firing in cases:
        assert any(firing), test["name"]
        assert not firing[-1], test["name"]


@pytest.mark.parametrize("alert", sorted(ALERTS.keys() - {"StepUpDown"}))
def test_every_alert_is_tested_to_be_silent_just_below(alert):
    for test, _ in cases_of(alert):
        assert any('namespace="under"' in each["series"] for each in test["input_series"])
        for case in test["alert_rule_test"]:
            firing = {each["exp_labels"]["namespace"] for each in case["exp_alerts"]}
            assert "under" not in firing


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_leads_to_its_runbook(alert):
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert.lower()}"
    assert re.search(f"^## {alert}$", RUNBOOKS, re.MULTILINE)


def test_every_runbook_is_of_an_alert():
    assert set(re.findall(r"^## (StepUp\w+)$", RUNBOOKS, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_what_it_is_and_how_bad(alert):
    rule = ALERTS[alert]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert "{{ $labels.namespace }}/{{ $labels.job }}" in rule["annotations"]["description"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert", rule.get("record")))
def test_every_rule_asks_for_what_a_server_shows(rule):
    assert not problems(rule["expr"], metrics_of_a_server() | RECORDED)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("stepup_lock_total > 1", "metric stepup_lock_total"),
        ("rate(setpup_locks_total[5m]) > 1", "metric setpup_locks_total"),
        ("sum by (kind) (stepup_locks_total)", "label kind"),
        ('stepup_locks_total{kind="reset"}', "label kind of stepup_locks_total"),
        ('stepup_locks_total{codes="onetime"}', "value onetime of codes"),
        ('stepup_calls_total{code=~"OK|UNAVAILBLE"}', "value OK|UNAVAILBLE of code"),
        ("stepup_call_seconds > 1", "metric stepup_call_seconds"),
    ],
)
def test_what_no_server_shows_is_found(expression, problem):
    assert problems(expression, metrics_of_a_server()) == [problem]
