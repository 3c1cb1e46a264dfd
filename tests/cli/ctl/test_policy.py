"""`stepup ctl policy`, `operations` and `check`, against a server."""

import json
from datetime import timedelta

import pytest
import yaml
from stepup_tests.people import person
from stepup_tests.worker import API_KEYS, OSQUERY, REMOTE_SHELL

from stepup.cli.ctl.policy import changing
from stepup.domain.audit import EventKind
from stepup.domain.policy import PolicyChange


async def policy_of(ctl):
    return json.loads((await ctl("policy", "show", "--json")).stdout)


async def selected(ctl):
    policy = await policy_of(ctl)
    return {each.pop("operation"): each for each in policy["operations"]}


async def test_a_business_gets_mfa_with_its_operations(ctl, worker):
    result = await ctl("policy", "select", OSQUERY, REMOTE_SHELL, "--max-age", "5m", "--yes")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:3] == [
        "policy                       before        after",
        "response.run_osquery         not selected  code of the last 5 min",
        "response.start_remote_shell  not selected  code of the last 5 min",
    ]
    result = await ctl("policy", "enable", "--yes")
    assert result.stdout.splitlines()[1] == "enabled  no      yes"
    policy = await policy_of(ctl)
    assert (policy["enabled"], policy["enroll_by"]) == (True, None)
    assert await selected(ctl) == {
        name: {"max_age": "300s", "every_time": False} for name in (OSQUERY, REMOTE_SHELL)
    }
    events = await worker.events(EventKind.POLICY_CHANGED_BY_OPERATOR)
    assert [each.details["operator"]["reason"] for each in events] == ["ticket 4711"] * 2


async def test_a_dry_run_and_equal_values_send_nothing(ctl, worker):
    result = await ctl("policy", "enable", "--dry-run", "--json", actor=("--tenant", "acme"))
    document = json.loads(result.stdout)
    assert (document["changed"], document["weakens"], document["dry_run"]) == (
        ["enabled"],
        [],
        True,
    )
    assert (document["before"]["enabled"], document["after"]["enabled"]) == (False, True)
    result = await ctl("policy", "deselect", OSQUERY, "--yes")
    assert (result.exit_code, result.stdout) == (0, "the policy of acme has these values already\n")
    assert await worker.events(EventKind.POLICY_CHANGED_BY_OPERATOR) == []


async def test_an_operation_that_is_selected_again_keeps_what_it_demands(ctl):
    await ctl("policy", "select", OSQUERY, "--every-time", "--yes")
    await ctl("policy", "select", OSQUERY, API_KEYS, "--yes")
    assert await selected(ctl) == {
        OSQUERY: {"every_time": True},
        API_KEYS: {"every_time": False},
    }


async def test_what_weakens_is_refused_with_the_words_of_who_can_do_it(ctl, worker):
    await worker.select(OSQUERY)
    result = await ctl("policy", "disable", "--yes")
    assert result.exit_code == 1
    assert "weaker: MFA is disabled" in result.stderr
    assert "A Master Administrator of the business has to make this change" in result.stderr
    assert (await policy_of(ctl))["enabled"] is True
    result = await ctl("policy", "deselect", OSQUERY, "--dry-run")
    assert result.exit_code == 1
    assert f"weaker: {OSQUERY} is deselected" in result.stderr
    assert "The server would refuse" in result.stderr


@pytest.mark.parametrize("form", [json.dumps, yaml.safe_dump])
async def test_what_show_writes_can_be_edited_and_set(ctl, tmp_path, form):
    await ctl("policy", "select", OSQUERY, "--max-age", "90s", "--yes")
    await ctl("policy", "select", API_KEYS, "--every-time", "--yes")
    document = await policy_of(ctl) | {"enabled": True, "issuer": "Acme"}
    file = tmp_path / "policy"
    file.write_text(form(document), "utf-8")
    result = await ctl("policy", "set", str(file), "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["changed"] == ["enabled", "issuer"]
    assert await selected(ctl) == {
        OSQUERY: {"max_age": "90s", "every_time": False},
        API_KEYS: {"every_time": True},
    }
    stale = await ctl("policy", "set", str(file), "--yes")
    assert (stale.exit_code, "the policy has changed" in stale.stderr) == (1, True)


async def test_a_file_changes_only_the_fields_that_it_has(ctl):
    await ctl("policy", "set-issuer", "Acme", "--yes")
    await ctl("policy", "select", OSQUERY, "--yes")
    result = await ctl("policy", "set", "-", "--yes", typed='{"enabled": true, "issuer": null}')
    assert result.exit_code == 0, result.output
    policy = await policy_of(ctl)
    assert (policy["enabled"], policy["issuer"], len(policy["operations"])) == (True, "", 1)


async def test_a_change_in_between_is_not_overwritten(ctl, monkeypatch):
    real = changing.stored_policy

    def read_and_change(work):
        found = real(work)
        monkeypatch.setattr(changing, "stored_policy", real)
        changing.change_policy(
            work, lambda _: PolicyChange("", enabled=True), dry_run=False, yes=True
        )
        return found

    monkeypatch.setattr(changing, "stored_policy", read_and_change)
    result = await ctl("policy", "select", OSQUERY, "--yes")
    assert result.exit_code == 1
    assert "The policy changed meanwhile. Read it again" in result.stderr
    assert await selected(ctl) == {}


async def test_time_to_enrol_is_given_and_ended(ctl, clock):
    assert (await ctl("policy", "enable", "--yes")).exit_code == 0
    until = (clock.now() + timedelta(days=7)).replace(microsecond=0)
    result = await ctl("policy", "set-enroll-by", until.isoformat(), "--yes")
    assert (result.exit_code, "weaker: enroll_by is set" in result.stderr) == (1, True)
    result = await ctl("policy", "set-enroll-by", "7d", "--dry-run")
    assert "enroll_by  -       20" in result.stdout
    assert (await ctl("policy", "set-enroll-by", "never", "--yes")).exit_code == 0


async def test_the_policy_is_shown_to_people(ctl):
    await ctl("policy", "select", OSQUERY, "--max-age", "90s", "--yes")
    lines = (await ctl("policy", "show")).stdout.splitlines()
    assert lines[:2] == ["policy           acme", "enabled          no"]
    assert lines[-1] == "response.run_osquery  code of the last 1 min 30 s"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("select", "osquery"), "OPERATION must have the form"),
        (("select", OSQUERY, "--max-age", "20m"), "--max-age must be whole seconds"),
        (("select", OSQUERY, "--max-age", "x"), "--max-age must be a duration"),
        (("select", OSQUERY, "--max-age", "1m", "--every-time"), "exclude each other"),
        (("select", "response.run_oskwery"), "have response.run_oskwery; did you mean"),
        (("select", "response.run_oskwery", "--dry-run"), f"did you mean {OSQUERY}?"),
        (("set-issuer", "a:b"), "ISSUER must have no colon"),
        (("set-enroll-by", "soon"), "WHEN must be an instant"),
        (("set-enroll-by", "23:59"), "WHEN must have a date"),
        (("set-enroll-by", "99999999d"), "WHEN must be a shorter duration"),
        (("set", "/nowhere/policy.json"), "/nowhere/policy.json: No such file"),
        (("set", "-"), "has the tenant_id other"),
        (("enable",), "Change the policy of acme at 127.0.0.1:"),
    ],
)
async def test_wrong_usage_is_exit_code_2(ctl, arguments, problem):
    yes = () if arguments == ("enable",) else ("--yes",)
    result = await ctl("policy", *arguments, *yes, typed='{"tenant_id": "other"}')
    assert (result.exit_code, problem in result.stderr) == (2, True), result.output


async def test_operations_are_listed_by_category(ctl):
    rows = [json.loads(line) for line in (await ctl("operations", "--json")).stdout.splitlines()]
    assert {"id", "title", "category"} == set(rows[0])
    assert OSQUERY in [row["id"] for row in rows]
    heads = (await ctl("operations")).stdout.splitlines()[:2]
    assert heads[0] == rows[0]["category"]
    assert heads[1].split() == ["operation", "title"]


async def test_a_check_is_explained_and_nothing_is_allowed(ctl, worker):
    await worker.select(OSQUERY)
    alice = ("check", "--explain", "--user", "alice", "--operation", OSQUERY)
    result = await ctl(*alice)
    assert result.exit_code == 1
    assert result.stdout.startswith("enrollment_required: not_enrolled\n")
    assert "decides  not_enrolled" in result.stdout
    exempt = await ctl(*alice, "--playbook-trigger", "automatic", "--json")
    assert exempt.exit_code == 0
    document = json.loads(exempt.stdout)
    assert document["decision"] == "DECISION_ALLOWED"
    assert document["rules"][-1]["matched"] is True
    [event, _] = await worker.events(EventKind.OPERATOR_READ)
    assert event.details["operator"]["name"] == "sam"


async def test_the_session_of_a_check_comes_from_a_file(ctl, worker, tmp_path):
    await worker.select(OSQUERY)
    alice = person("alice")
    await worker.elevate(alice, await worker.enrol(alice))
    file = tmp_path / "session"
    file.write_text(f"{alice.session_id}\n")
    command = ("check", "--user", "alice", "--operation", OSQUERY, "--session-id-file")
    assert (await ctl(*command, str(file))).exit_code == 0
    assert (await ctl(*command, "-", typed=f"{alice.session_id}\n")).exit_code == 0
    other = await ctl(*command, "-", typed="another\n")
    assert other.exit_code == 1
    assert "step_up_required: not_elevated" in other.stdout
    assert (await ctl(*command, "/nowhere/session")).exit_code == 2


async def test_a_tenant_that_never_had_a_policy_is_perhaps_mistyped(ctl):
    assert "acme never had a policy" in (await ctl("policy", "show")).stderr
    await ctl("policy", "select", OSQUERY, "--yes")
    assert "never had" not in (await ctl("policy", "show")).stderr
