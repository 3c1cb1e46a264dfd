"""`stepup coverage`: gates that nobody passes."""

import json

import pytest
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.client.guards import write_method_map

OSQUERY, ACCESS, KEYS = "response.run_osquery", "iam.configure_access", "iam.configure_api_keys"
CALLERS = """
[tls]
certificate = "tls.crt"
key = "tls.key"
client_ca = "clients.pem"
"""
CALLER = """
[[callers]]
name = "{name}"
identities = ["spiffe://acme/{name}"]
[[callers.rules]]
methods = ["{method}"]
tenants = ["*"]
operations = ["*"]
"""


@pytest.fixture
def policy(tmp_path):
    """Writes a policy that selects operations; returns its path."""

    def write(*operations, **fields):
        path = tmp_path / f"policy-{len(list(tmp_path.iterdir()))}.json"
        selected = [{"operation": each} for each in operations]
        path.write_text(json.dumps({"enabled": True, "operations": selected, **fields}))
        return str(path)

    return write


def run(*arguments):
    return CliRunner().invoke(app, ["coverage", *arguments])


def found(*arguments):
    ran = run(*arguments, "--json")
    assert ran.exit_code in (0, 1), ran.output
    document = json.loads(ran.stdout)
    assert ran.exit_code == int(any(each["never_asked"] for each in document["policies"]))
    return document


def test_a_selected_operation_that_nobody_asks_about_is_found(line, log, policy):
    logs = log(line(1), line(2, caller="playbooks"), line(3, operation="account.sign_in"))
    document = found("--policy", policy(ACCESS, OSQUERY), "--decisions", logs)
    assert (document["begins"], document["ends"]) == (
        "2026-03-01T10:01:00Z",
        "2026-03-01T10:03:00Z",
    )
    [of_policy] = document["policies"]
    assert of_policy["never_asked"] == [ACCESS]
    never, asked = of_policy["selected"]
    assert (never["operation"], never["last"], never["decisions"]) == (ACCESS, None, 0)
    assert asked == {
        "operation": OSQUERY,
        "last": "2026-03-01T10:02:00Z",
        "decisions": 2,
        "callers": ["playbooks", "response-actions"],
        "methods": [],
    }
    assert of_policy["not_selected"] == []


def test_a_selected_operation_that_nobody_knows_is_perhaps_mistyped(line, log, policy):
    mistyped = policy("response.run_oskwery", ACCESS)
    told = run("--policy", mistyped, "--decisions", log(line())).stderr
    assert f"did you mean {OSQUERY}?" in told
    assert ACCESS not in told


def test_an_operation_with_a_question_that_is_not_selected_is_shown(line, log, policy):
    document = found("--policy", policy(OSQUERY), "--decisions", log(line(operation=KEYS), line()))
    [of_policy] = document["policies"]
    assert [each["operation"] for each in of_policy["not_selected"]] == [KEYS]
    assert of_policy["never_asked"] == []


def test_each_policy_is_compared_with_the_questions_of_its_business(line, log, policy):
    logs = log(line(), line(operation=ACCESS, tenant_id="other"))
    policies = ("--policy", policy(OSQUERY, tenant_id="acme"))
    policies += ("--policy", policy(OSQUERY, ACCESS, tenant_id="other"))
    document = found(*policies, "--decisions", logs)
    assert [each["never_asked"] for each in document["policies"]] == [[], [OSQUERY]]
    of_none = run("--policy", policy(OSQUERY, ACCESS), "--decisions", logs)
    assert of_none.exit_code == 2
    assert "2 businesses, such as acme, other; give --tenant" in of_none.stderr
    narrowed = ("--policy", policy(OSQUERY, ACCESS), "--decisions", logs, "--tenant", "acme")
    assert found(*narrowed)["policies"][0]["never_asked"] == [ACCESS]


def test_a_question_before_since_does_not_count_and_its_date_is_shown(line, log, policy):
    arguments = ("--policy", policy(OSQUERY), "--decisions", log(line(1)))
    [of_policy] = found(*arguments, "--since", "2026-03-01T10:02Z")["policies"]
    assert of_policy["never_asked"] == [OSQUERY]
    assert of_policy["selected"][0]["last"] == "2026-03-01T10:01:00Z"
    [of_policy] = found(*arguments, "--since", "2026-03-01T10:01Z")["policies"]
    assert of_policy["never_asked"] == []


def test_callers_that_may_ask_and_never_do_are_named(line, log, policy, tmp_path):
    config = tmp_path / "stepup.toml"
    rules = {"response-actions": "*", "playbooks": "StepUpService/*", "sam": "PolicyService/*"}
    callers = (CALLER.format(name=name, method=method) for name, method in rules.items())
    config.write_text(CALLERS + "".join(callers))
    arguments = ("--policy", policy(OSQUERY), "--decisions", log(line()), "--config", str(config))
    assert found(*arguments)["silent_callers"] == ["playbooks"]
    config.write_text(config.read_text().replace('["*"]\noperations', '["other"]\noperations'))
    assert found(*arguments, "--tenant", "acme")["silent_callers"] == []
    arguments = ("--policy", policy(OSQUERY, tenant_id="acme"), *arguments[2:])
    assert found(*arguments)["silent_callers"] == []


def test_maps_of_guards_show_methods_without_an_operation(line, log, policy, tmp_path):
    methods = tmp_path / "map.json"
    write_method_map({"/hosts/query": OSQUERY, "/hosts/wipe": None}, methods)
    arguments = ("--policy", policy(OSQUERY), "--decisions", log(line()), "--methods", str(methods))
    document = found(*arguments)
    assert document["methods_without_operation"] == [
        {"file": str(methods), "method": "/hosts/wipe"}
    ]
    assert document["policies"][0]["selected"][0]["methods"] == ["/hosts/query"]


def test_people_read_dates_and_a_conclusion(line, log, policy):
    ran = run("--policy", policy(OSQUERY, ACCESS), "--decisions", log(line(), line(operation=KEYS)))
    lines = ran.stdout.splitlines()
    assert lines[0] == "decisions from 2026-03-01T10:00:00Z to 2026-03-01T10:00:00Z"
    assert f"{ACCESS}  never                 0" in lines
    assert lines[-1] == f"selected operations that nobody asked about: {ACCESS}"
    assert ran.exit_code == 1
    empty = ("--policy", policy(), "--decisions", log())
    assert run(*empty).stdout.startswith("the logs have no decision\n")
    assert run(*empty, "--tenant", "acm").stdout.startswith("the logs have no decision of acm\n")


def test_unfit_files_are_named(line, log, policy, tmp_path):
    bad = tmp_path / "bad.json"
    logs = ("--decisions", log(line()))
    good = ("--policy", policy(OSQUERY))
    for text, arguments, problem in [
        ("{}", ("--policy", str(bad)), "bad.json: operations: is required"),
        ("[]", (*good, "--methods", str(bad)), "bad.json: is not a file of write_method_map"),
        ('{"methods": {"a": 1}}', (*good, "--methods", str(bad)), "a text or null"),
        ("{}", (*good, "--methods", str(tmp_path / "none")), "No such file"),
        ('{"methods": {"a": "b", "a": null}}', (*good, "--methods", str(bad)), "'a' twice"),
        ("{}", ("--policy", policy(OSQUERY, tenant_id="x"), "--tenant", "acme"), "is x, and not"),
    ]:
        bad.write_text(text)
        refused = run(*arguments, *logs)
        assert refused.exit_code == 2
        assert problem in refused.stderr
