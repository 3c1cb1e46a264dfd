"""`stepup policy simulate`. That a simulation agrees with a real service: test_agreement.py."""

import json
import sys
from xml.etree import ElementTree as ET

import pytest
import resvg_py
from typer.testing import CliRunner

from stepup.cli.main import app

OSQUERY, SHELL, KEYS = (
    "response.run_osquery",
    "response.start_remote_shell",
    "iam.configure_api_keys",
)
NOT_SELECTED = {"reason": "operation_not_selected"}
PROMPT = {"decision": "step_up_required", "reason": "not_elevated"}
NEW = f"""
enabled: true
operations:
- operation: {SHELL}
- operation: {KEYS}
"""
TALLY = {
    "calls": 0,
    "people": 0,
    "prompts_before": 0,
    "people_before": 0,
    "prompts_after": 0,
    "people_after": 0,
    "prompts_added": 0,
    "people_added": 0,
    "prompts_removed": 0,
    "people_removed": 0,
}


@pytest.fixture
def policy(tmp_path):
    """Writes a policy file; returns its path."""

    def policy(text=NEW, name="new.yaml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return str(path)

    return policy


@pytest.fixture
def week(line, log):
    """A log: osquery is selected, and a remote shell is not."""
    return log(
        line(0, operation=OSQUERY, **PROMPT),
        line(1, operation=OSQUERY),
        line(2, operation=SHELL, **NOT_SELECTED),
        line(3, operation=SHELL, **NOT_SELECTED),
        line(20, operation=SHELL, **NOT_SELECTED),
        line(0, user_id="bob", operation=SHELL, **NOT_SELECTED),
        line(1, user_id="bob", operation=OSQUERY, reason="exempt_managed_services"),
        line(
            2,
            user_id="carol",
            operation="account.sign_in",
            reason="sign_in_not_supported_for_saml",
            account_type="saml",
        ),
    )


def run(*arguments, status=0, text=None):
    result = CliRunner().invoke(app, ["policy", "simulate", *arguments], input=text)
    assert result.exit_code == status, result.output
    return result


def simulated(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def test_prompts_added_and_removed_by_operation_and_for_how_many_people(policy, week):
    found = simulated("--policy", policy(), "--decisions", week)

    operations = {each.pop("operation"): each for each in found.pop("operations")}
    assert operations == {
        SHELL: TALLY
        | {"calls": 4, "people": 2}
        | {"prompts_after": 3, "people_after": 2, "prompts_added": 3, "people_added": 2},
        OSQUERY: TALLY
        | {"calls": 3, "people": 2}
        | {"prompts_before": 1, "people_before": 1, "prompts_removed": 1, "people_removed": 1},
        "account.sign_in": TALLY | {"calls": 1, "people": 1},
        KEYS: TALLY,
    }
    assert list(operations)[:2] == [SHELL, OSQUERY]
    assert found == {
        "tenant_id": "acme",
        "before": None,
        "after": policy(),
        "select": [],
        "since": "2026-03-01T10:00:00+00:00",
        "until": "2026-03-01T10:20:00+00:00",
        "skipped": 0,
        "people_to_enrol": 1,  # Bob; Alice's decisions show an authenticator
        "people_in_grace": 0,
        "total": {
            "calls": 8,
            "people": 3,
            "prompts_before": 1,
            "people_before": 1,
            "prompts_after": 3,
            "people_after": 2,
            "prompts_added": 3,
            "people_added": 2,
            "prompts_removed": 1,
            "people_removed": 1,
        },
    }


def test_for_people_it_is_a_table_with_the_assumptions(policy, week):
    text = run("--policy", policy(), "--decisions", week).stdout

    assert text.startswith(
        "2026-03-01T10:00:00Z to 2026-03-01T10:20:00Z: 8 calls for 3 people; 1 prompt recorded,"
        " 3 under new.yaml\n"
        "added: 3 prompts, for 2 people\n"
        "removed: 1 prompt, for 1 person\n"
        "to enrol: 1 person\n"
    )
    [row] = [row.split() for row in text.splitlines() if row.startswith(SHELL)]
    assert row == [SHELL, "4", "0", "3", "3", "0", "2"]
    assert "2 more operations without a prompt, before and after" in text
    assert KEYS not in text
    assert "Assumed: people do at once what an answer demands" in text


def test_a_policy_without_prompts_is_one_sentence_and_a_picture(policy, line, log, tmp_path):
    quiet = log(line(0, operation=OSQUERY, **NOT_SELECTED))
    path = tmp_path / "quiet.svg"
    text = run("--policy", policy(), "--decisions", quiet, "--svg", str(path)).stdout
    assert "no operation has a prompt, before or after\n" in text
    assert "more operations" not in text
    assert KEYS in path.read_text("utf-8")


def test_a_baseline_is_simulated_as_well(policy, week):
    both = f"enabled: true\noperations: [{{operation: {OSQUERY}}}, {{operation: {SHELL}}}]"
    before = policy(both, "old.yaml")
    total = simulated("--policy", policy(), "--before", before, "--decisions", week)["total"]

    # Alice gives a code at 10:00 under the old policy, and at 10:02 under the new one.
    names = ("prompts_before", "prompts_after", "prompts_added", "prompts_removed")
    assert [total[name] for name in names] == [3, 3, 1, 1]


def test_more_operations_are_selected_without_a_file(policy, week):
    osquery = f"enabled: true\noperations: [{{operation: {OSQUERY}, max_age: 30s}}]"
    now = policy(osquery, "now.yaml")
    arguments = ("--policy", now, "--before", now, "--select", SHELL, "--select", OSQUERY)
    found = simulated(*arguments, "--decisions", week)

    # Osquery keeps its 30 seconds: Alice gives a code for it at 10:00 and 10:01, Bob at 10:01.
    # Shells add one for Alice at 10:20, and one for Bob at 10:00.
    assert found["select"] == [SHELL, OSQUERY]
    names = ("prompts_before", "prompts_after", "prompts_added", "prompts_removed")
    assert [found["total"][name] for name in names] == [3, 5, 2, 0]
    text = run(*arguments, "--decisions", week).stdout
    assert "under now.yaml with 2 more operations" in text


def test_an_operation_that_nobody_knows_is_perhaps_mistyped(policy, line, log):
    logs = log(line(operation="own.operation"))
    selected = ("--select", "response.run_oskwery", "--select", "own.operation")
    told = run("--policy", policy(), *selected, "--decisions", logs).stderr
    [warning] = [each for each in told.splitlines() if "catalogue" in each]
    assert warning.startswith("response.run_oskwery: ")
    assert warning.endswith(f"did you mean {OSQUERY}?")


def test_one_code_serves_a_batch(policy, line, log):
    batch = {"request_id": "of the batch"}
    path = log(
        line(0, operation=SHELL, **batch, **NOT_SELECTED),
        line(0, operation=SHELL, target="host-8", **batch, **NOT_SELECTED),
        line(0, operation=KEYS, **batch, **NOT_SELECTED),
    )
    found = simulated("--policy", policy(), "--decisions", path)
    assert [found["total"][name] for name in ("calls", "prompts_added")] == [1, 1]
    assert [each["prompts_added"] for each in found["operations"]] == [1, 1]


def test_a_repeated_decision_does_not_count(policy, line, log):
    shared = {"operation": KEYS, "reason": "exempt_timed_out_retry"} | {
        "first_authorised_at": "2026-03-01T09:30:00.000000+00:00"
    }
    path = log(line(0, **shared), line(0.5, **shared, repeated=True))
    assert simulated("--policy", policy(), "--decisions", path)["total"]["calls"] == 1


def test_people_without_an_authenticator_who_have_time_to_enrol(policy, line, log):
    grace = policy(f"{NEW}enroll_by: 2026-03-01T10:10:00Z\n")
    path = log(line(0, operation=SHELL, **NOT_SELECTED))
    found = simulated("--policy", grace, "--decisions", path)
    assert (found["people_in_grace"], found["people_to_enrol"]) == (1, 0)
    assert "until enroll_by: 1 person" in run("--policy", grace, "--decisions", path).stdout


def test_decisions_of_an_unknown_kind_are_left_out_and_counted(policy, line, log):
    path = log(
        line(0, operation=SHELL, **NOT_SELECTED),
        line(1, operation=SHELL, reason="of_a_newer_release"),
        line(2, operation="no operation"),
        line(3, reason="exempt_timed_out_retry"),  # without first_authorised_at
        "{",
    )
    result = run("--policy", policy(), "--decisions", path)
    assert "since this release does not know them: 3 decisions" in result.stdout
    assert "1 line is not a decision" in result.stderr
    assert "1 call " in result.stdout


def test_the_time_and_the_business_limit_the_decisions(policy, line, log):
    paths = [
        log(line(0, operation=SHELL, **NOT_SELECTED), name="one.jsonl"),
        log(line(9, operation=SHELL, tenant_id="globex", **NOT_SELECTED), name="two.jsonl"),
    ]
    logs = ["--decisions", paths[0], "--decisions", paths[1]]
    of_globex = policy(f"tenant_id: globex\n{NEW}", "globex.yaml")
    assert simulated("--policy", of_globex, *logs)["tenant_id"] == "globex"
    assert simulated("--policy", policy(), *logs, "--tenant", "acme")["tenant_id"] == "acme"
    by_time = simulated("--policy", policy(), *logs, "--since", "2026-03-01T10:05Z")
    assert by_time["tenant_id"] == "globex"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--policy", "{new}", "--decisions", "{both}"], "of 2 businesses, such as acme, globex"),
        (["--policy", "{new}", "--decisions", "{both}", "--tenant", "x"], "no decision of x"),
        (["--policy", "{new}", "--decisions", "{both}", "--until", "2020-01-01"], "no decision in"),
        (["--policy", "{part}", "--decisions", "{both}"], "part.json: enabled: is required"),
        (["--policy", "{new}", "--decisions", "{both}", "--select", "x"], "--select must"),
        (["--policy", "{new}", "--decisions", "none*"], "none*: no such file"),
        (["--policy", "-", "--decisions", "-"], "give - only once"),
        (["--policy", "{new}", "--decisions", "{both}", "--since", "soon"], "--since must be"),
    ],
)
def test_what_cannot_be_simulated_is_explained(arguments, problem, policy, line, log):
    paths = {
        "new": policy(),
        "part": policy('{"tenant_id": "acme", "operations": []}', "part.json"),
        "both": log(line(0), line(1, tenant_id="globex")),
    }
    result = run(*(each.format(**paths) for each in arguments), status=2)
    assert problem in result.stderr
    assert not result.stdout


@pytest.fixture
def picture(policy, week, tmp_path):
    path = tmp_path / "picture.svg"
    run("--policy", policy(name="<new>.yaml"), "--decisions", week, "--svg", str(path))
    return path.read_text("utf-8")


def test_the_picture_has_a_title_and_words_for_people_who_do_not_see_it(picture):
    root = ET.fromstring(picture)  # noqa: S314  # our own
    title, words = (root.find(f"{{*}}{name}") for name in ("title", "desc"))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby").split() == [title.get("id"), words.get("id")]
    assert title.text == "Prompts in acme under <new>.yaml"
    assert f"{SHELL}: 0 prompts before, 3 after." in words.text
    assert KEYS not in picture
    assert "3 under <new>.yaml" in words.text


def test_the_picture_has_other_colours_in_the_dark_and_is_drawn_by_other_programs(picture):
    assert "@media (prefers-color-scheme: dark)" in picture
    for colour in ("#ffffff", "#24292f", "#b4bcc4", "#0a4a8f"):
        assert f'[fill="{colour}"]' in picture
        assert f'fill="{colour}" ' in picture
    assert bytes(resvg_py.svg_to_bytes(svg_string=picture)).startswith(b"\x89PNG")


def test_a_picture_needs_the_extra(policy, week, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    path = tmp_path / "picture.svg"
    result = run("--policy", policy(), "--decisions", week, "--svg", str(path), status=2)
    assert "a picture needs the extra `analysis`" in result.stderr


def test_a_picture_that_cannot_be_written_is_a_failure(policy, week, tmp_path):
    path = tmp_path / "missing" / "picture.svg"
    result = run("--policy", policy(), "--decisions", week, "--svg", str(path), status=2)
    assert "picture.svg: No such file or directory" in result.stderr
