"""The dashboard: Grafana knows every field, Prometheus every expression, a server every metric."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from stepup_tests.deploy.promql import metrics_of_a_server, problems
from stepup_tests.places import ROOT

FILE = ROOT / "deploy" / "monitoring" / "dashboard.json"
PANELS = json.loads(FILE.read_text())["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in SHOWN for target in panel["targets"]]


def lost(ours, theirs, where=""):
    """What of ours is not in theirs, which may have more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            yield from lost(value, theirs.get(name), f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, value in enumerate(ours):
            yield from lost(value, theirs[number], f"{where}[{number}]")
    elif ours != theirs:
        yield where


def read_by_grafana(tools, file):
    """What the classes that Grafana publishes make of a dashboard."""
    read = tools.run("python", Path(__file__).with_name("read_dashboard.py"), file)
    assert read.returncode == 0, read.stderr
    return json.loads(read.stdout)


def test_grafana_knows_every_field(tools):
    assert not list(lost(json.loads(FILE.read_text()), read_by_grafana(tools, FILE)))


def test_a_field_that_grafana_does_not_know_is_found(tools, tmp_path):
    changed = json.loads(FILE.read_text())
    changed["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    file = tmp_path / "dashboard.json"
    file.write_text(json.dumps(changed))
    found = list(lost(changed, read_by_grafana(tools, file)))
    assert found == [".panels[1].fieldConfig.defaults.units"]


def test_prometheus_takes_every_expression(tools, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = tools.run("promtool", "check", "rules", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(EXPRESSIONS)} rules found" in checked.stdout


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_asks_for_what_a_server_shows(expression):
    assert not problems(expression, metrics_of_a_server())


@pytest.mark.parametrize("panel", SHOWN, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows_and_in_which_unit(panel):
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])


def test_every_expression_follows_the_variables():
    for expression in EXPRESSIONS:
        assert 'namespace=~"$namespace", job=~"$job", instance=~"$instance"' in expression


def test_no_two_panels_have_one_id():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_no_two_panels_lie_on_each_other_and_none_leaves_the_page():
    def overlap(one, other):
        return all(
            one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
            for start, size in (("x", "w"), ("y", "h"))
        )

    places = [panel["gridPos"] for panel in PANELS]
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]
    assert all(place["x"] + place["w"] <= 24 for place in places)
