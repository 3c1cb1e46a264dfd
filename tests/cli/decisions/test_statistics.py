"""`stepup decisions stats`: exemptions, prompts, operations."""

import json

import pytest
from typer.testing import CliRunner

from stepup.cli.main import app

PROMPT = {"decision": "step_up_required", "reason": "not_elevated"}


def stats(*arguments):
    ran = CliRunner().invoke(app, ["decisions", "stats", *arguments])
    assert ran.exit_code == 0, ran.output
    return ran


def counts_of(*arguments):
    return json.loads(stats(*arguments, "--json").stdout)


def test_without_logs_the_variable_is_named(monkeypatch, line, log):
    ran = CliRunner().invoke(app, ["decisions", "stats"])
    assert (ran.exit_code, "STEPUP_DECISION_LOGS" in ran.stderr) == (2, True), ran.output
    monkeypatch.setenv("STEPUP_DECISION_LOGS", log(line()))
    assert counts_of()["decisions"] == 1


def test_exemptions_are_counted_by_caller_and_reason(line, log):
    automatic = {"caller": "playbooks", "reason": "exempt_automatic_playbook"}
    retry = line(reason="exempt_timed_out_retry")
    counts = counts_of(
        log(
            line(**automatic),
            line(**automatic),
            line(**automatic, user_id="bob"),
            retry,
            {**retry, "repeated": True},
            line(reason="operation_not_selected"),
        )
    )
    assert counts["exemptions"] == [
        {"caller": "playbooks", "reason": "exempt_automatic_playbook", "decisions": 3, "people": 2},
        {
            "caller": "response-actions",
            "reason": "exempt_timed_out_retry",
            "decisions": 1,
            "people": 1,
        },
    ]
    assert (counts["decisions"], counts["people"]) == (5, 2)


@pytest.mark.parametrize("request_id", ["of-a-proxy", None])
def test_calls_with_one_request_id_are_prompts_of_their_own(line, log, request_id):
    of_alice = [line(each, **PROMPT, request_id=request_id) for each in range(5)]
    of_another = line(0, **PROMPT, request_id=request_id, caller="another")
    of_bob = line(0, **PROMPT, request_id=request_id, user_id="bob")
    counts = counts_of(log(*of_alice, of_another, of_bob))
    assert counts["prompts"]["prompts"] == counts["operations"][0]["prompts"] == 7


def test_a_call_is_one_prompt_however_many_checks_it_has(line, log):
    batch = [line(**PROMPT, request_id="batch", target=f"host-{each}") for each in range(3)]
    of_bob = [line(**PROMPT, user_id="bob") for _ in range(4)]
    of_carol = [line(**PROMPT, user_id="carol") for _ in range(2)]
    counts = counts_of(log(*batch, *of_bob, *of_carol, line(user_id="dora")))
    assert counts["prompts"] == {
        "prompts": 7,
        "people": 3,
        "median": 2,
        "p90": 4,
        "max": 4,
        "most": [
            {"tenant_id": "acme", "user_id": "bob", "prompts": 4},
            {"tenant_id": "acme", "user_id": "carol", "prompts": 2},
            {"tenant_id": "acme", "user_id": "alice", "prompts": 1},
        ],
    }


def test_operations_have_their_numbers_and_their_last_decision(line, log):
    counts = counts_of(
        log(line(), line(2, **PROMPT), line(1, operation="iam.configure_access", user_id="bob"))
    )
    assert counts["operations"] == [
        {
            "operation": "response.run_osquery",
            "decisions": 2,
            "prompts": 1,
            "exempt": 0,
            "people": 1,
            "last": "2026-03-01T10:02:00Z",
        },
        {
            "operation": "iam.configure_access",
            "decisions": 1,
            "prompts": 0,
            "exempt": 0,
            "people": 1,
            "last": "2026-03-01T10:01:00Z",
        },
    ]


def test_people_read_tables_and_logs_without_decisions_have_none(line, log):
    text = stats(log(line(), line(**PROMPT), "torn")).stdout
    assert "2 decisions about 1 person, from 2026-03-01T10:00:00Z" in text
    assert "  per person: median 1, 90th percentile 1, most 1" in text
    assert "Exemptions: none" in text
    torn = stats(log("torn", name="b.jsonl"))
    assert torn.stdout == "no decisions\n"
    assert "b.jsonl: 1 line is not a decision, and left out" in torn.stderr
    assert counts_of(log())["prompts"]["median"] is None


def test_a_log_and_its_copy_count_once(line, log):
    written = [line(), line()]
    ran = stats(log(*written), log(*written, name="copy.jsonl"))
    assert ran.stdout.startswith("2 decisions about")
    assert "2 of the lines are copies of other lines, and left out" in ran.stderr


def test_a_selection_narrows_what_is_counted(line, log):
    source = log(line(), line(60), line(60, user_id="bob"), line(60, tenant_id="other"))
    since = ("--since", "2026-03-01T10:30Z")
    assert counts_of(source, *since)["decisions"] == 3
    assert counts_of(source, *since, "--tenant", "acme", "--user", "alice")["decisions"] == 1


def test_the_logs_may_be_named_by_the_environment(line, log):
    ran = CliRunner().invoke(
        app, ["decisions", "stats", "--json"], env={"STEPUP_DECISION_LOGS": log(line())}
    )
    assert json.loads(ran.stdout)["decisions"] == 1
