"""`stepup ctl audit`, against a server."""

import asyncio
import json

import pytest
from stepup_tests.people import administrator, person
from stepup_tests.worker import OSQUERY, REMOTE_SHELL
from typer.testing import CliRunner

from stepup.cli.ctl.audit import following
from stepup.cli.ctl.audit.commands import ADMINISTRATION
from stepup.cli.ctl.audit.reading import cells_of
from stepup.cli.main import app
from stepup.client.messages import audit
from stepup.domain.audit import EventKind

TENANT = ("--tenant", "acme")
"""Nobody acts who reads events."""


@pytest.fixture
async def history(worker):
    """A policy is set, bob enrols, and an administrator resets the authenticator."""
    await worker.select(OSQUERY)
    await worker.enrol(person("bob"))
    root = await worker.enrol(administrator())
    await worker.elevate(administrator(), root)
    await worker.admin_reset(administrator(), "bob", "lost; [bold]")
    await worker.select(OSQUERY, REMOTE_SHELL)


def kinds(result):
    return [json.loads(line)["kind"] for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("history")
async def test_the_changes_of_administrators_are_one_command(ctl):
    result = await ctl("audit", "list", "--administration", "--since", "2026-01-01", actor=TENANT)
    assert result.exit_code == 0, result.output
    assert result.stderr == "--since 2026-01-01T00:00:00Z\n"
    _, newest, reset, first = result.stdout.splitlines()
    assert f"{REMOTE_SHELL}: code of the last 15 min (before: not selected)" in newest
    assert OSQUERY not in newest
    assert "etag" not in newest
    assert "root  bob" in reset
    assert "reason: lost; [bold]" in reset
    assert "enabled: true (before: false)" in first


async def test_lists_without_a_row_are_a_sentence(ctl):
    events = await ctl("audit", "list", "--kind", "otp_rejected", actor=TENANT)
    assert events.stdout == "acme has no such audit event\n"
    found = await ctl("people", "list", "--not-enrolled")
    assert found.stdout == "the service knows nobody of acme in the state not_enrolled\n"
    found = await ctl("challenges", "list", "bob")
    assert found.stdout == "bob has no challenge of the last day\n"
    assert (await ctl("policy", "show")).stdout.endswith("\nthe policy selects no operation\n")


@pytest.mark.parametrize(
    ("max_age", "shown"), [("every_time", "approval each time"), (300, "code of the last 5 min")]
)
def test_a_changed_demand_is_worded_as_in_the_policy(max_age, shown):
    changed = audit.AuditEvent()
    changed.details.update(
        {"before": {"operations": {OSQUERY: max_age}}, "after": {"operations": {}}}
    )
    assert cells_of(changed)[-1] == f"{OSQUERY}: not selected (before: {shown})"


@pytest.mark.usefixtures("history")
async def test_details_in_json_are_as_recorded(ctl, worker):
    result = await ctl("audit", "list", "--kind", "policy_changed", "--json", actor=TENANT)
    listed = [json.loads(line)["details"] for line in result.stdout.splitlines()]
    recorded = [event.details for event in await worker.events(EventKind.POLICY_CHANGED)]
    assert json.dumps(listed[::-1], sort_keys=True) == json.dumps(recorded, sort_keys=True)
    assert ": 900" in result.stdout


def test_administration_has_each_kind_that_names_an_administrator_an_operator_or_a_command():
    named = {
        kind
        for kind in EventKind
        if kind.value.endswith(("_by_operator", "_by_administrator", "_by_break_glass"))
    }
    assert named <= set(ADMINISTRATION)
    assert EventKind.OPERATOR_READ not in ADMINISTRATION


@pytest.mark.usefixtures("history")
async def test_events_are_filtered(ctl, worker):
    named = ("--kind", "policy_changed", "--kind", "enrollment_completed", "--json")
    result = await ctl("audit", "list", *named, "--user", "bob", actor=TENANT)
    assert kinds(result) == ["AUDIT_EVENT_KIND_ENROLLMENT_COMPLETED"]
    [event] = await worker.events(EventKind.AUTHENTICATOR_RESET_BY_ADMINISTRATOR)
    at = event.occurred_at.isoformat()
    until = await ctl("audit", "list", "--json", "--until", at, actor=TENANT)
    since = await ctl("audit", "list", "--json", "--since", at, actor=TENANT)
    assert "AUDIT_EVENT_KIND_AUTHENTICATOR_RESET_BY_ADMINISTRATOR" in kinds(since)
    assert len(kinds(until)) + len(kinds(since)) == len(await worker.events())


@pytest.mark.usefixtures("history")
async def test_a_list_says_what_it_leaves_out(ctl, worker, monkeypatch):
    monkeypatch.setattr("stepup.cli.ctl.audit.reading._PAGE", 2)
    number = len(await worker.events())
    result = await ctl("audit", "list", "--limit", str(number - 1), "--json", actor=TENANT)
    assert len(kinds(result)) == number - 1
    assert f"--limit {number - 1}" in result.stderr
    result = await ctl("audit", "list", "--limit", str(number), "--json", actor=TENANT)
    assert (len(kinds(result)), result.stderr) == (number, "")


async def test_events_name_operators_hosts_and_programs(ctl, worker):
    await worker.enrol(person("bob"))
    await worker.break_glass("bob")
    await ctl("people", "revoke", "bob", "--yes")
    lines = (await ctl("audit", "list", "--administration", actor=TENANT)).stdout.splitlines()
    assert "operator sam   bob" in lines[1]
    assert "reason: ticket 4711" in lines[1]
    assert "sam on host-1  bob" in lines[2]


async def test_administration_has_refused_changes_of_operators_and_no_other_read(ctl, worker):
    await worker.select(OSQUERY)
    await ctl("policy", "disable", "--yes")
    await ctl("people", "list")
    listed = await ctl("audit", "list", "--administration", "--json", actor=TENANT)
    attempt, change = map(json.loads, listed.stdout.splitlines())
    assert attempt["kind"] == "AUDIT_EVENT_KIND_OPERATOR_READ"
    assert attempt["details"]["method"] == "PolicyService/UpdatePolicy"
    assert change["kind"] == "AUDIT_EVENT_KIND_POLICY_CHANGED"
    reads = await ctl(
        "audit", "list", "--administration", "--kind", "operator_read", "--json", actor=TENANT
    )
    assert kinds(reads).count("AUDIT_EVENT_KIND_OPERATOR_READ") == 2


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("otp_verify", "did you mean otp_verified"), ("zzz", "docs/auditing.md lists the kinds")],
)
def test_a_mistyped_kind_gets_the_nearest(kind, advice):
    result = CliRunner().invoke(app, ["ctl", "audit", "list", "--kind", kind, *TENANT])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"stepup: --kind: unknown: {kind}; {advice}")
    assert len(result.stderr) < 200


def test_a_time_that_is_not_one_is_named():
    result = CliRunner().invoke(app, ["ctl", "audit", "list", "--until", "soon", *TENANT])
    assert (result.exit_code, "--until must be an instant" in result.stderr) == (2, True)


@pytest.fixture
def polls(monkeypatch):
    """What happens at each pause of `audit tail`; at the end somebody presses Ctrl-C."""
    steps = []

    def pause(_):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr(following.time, "sleep", pause)
    return steps


@pytest.fixture
async def here():
    """Runs a coroutine of the worker from the thread of the command."""
    loop = asyncio.get_running_loop()

    def here(make):
        return lambda: asyncio.run_coroutine_threadsafe(make(), loop).result(30)

    return here


async def revoke(worker, user):
    await worker.revoke(person(user))


@pytest.mark.usefixtures("history")
async def test_tail_begins_with_the_newest_and_follows_until_ctrl_c(ctl, worker, polls, here):
    polls.append(here(lambda: revoke(worker, "carol")))
    polls.append(here(lambda: revoke(worker, "dora")))
    options = ("--administration", "--kind", "elevations_revoked", "--lines", "2")
    result = await ctl("audit", "tail", *options, actor=TENANT)
    assert (result.exit_code, result.stderr) == (0, "")
    words = [line.split()[2] for line in result.stdout.splitlines()]
    expected = ["authenticator_reset_by_administrator", "policy_changed"]
    assert words == [*expected, "elevations_revoked", "elevations_revoked"]
    assert "carol > carol" in result.stdout.splitlines()[2]


async def test_tail_follows_one_person_as_json(ctl, worker, polls, here):
    polls.append(here(lambda: revoke(worker, "carol")))
    polls.append(here(lambda: revoke(worker, "dora")))
    result = await ctl("audit", "tail", "--user", "dora", "--json", actor=TENANT)
    assert [json.loads(line)["actor_user_id"] for line in result.stdout.splitlines()] == ["dora"]


async def test_tail_outlives_a_server_that_is_not_available(ctl, worker, world, polls, here):
    def reads(available):
        def switch():
            world.database.reads = available

        return switch

    polls += [reads(available=False), lambda: None, reads(available=True)]
    polls.append(here(lambda: revoke(worker, "dora")))
    result = await ctl("audit", "tail", actor=TENANT)
    assert result.exit_code == 0
    assert result.stderr.count("trying again") == 1
    assert "dora > dora" in result.stdout


async def test_tail_fails_if_its_first_call_fails(ctl, world):
    world.database.reads = False
    assert (await ctl("audit", "tail", actor=TENANT)).exit_code == 2
