"""`stepup ctl people`, against a server: lists, one person, and acts of an operator."""

import json
from datetime import timedelta

import pytest
import typer
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.cli.ctl import patience
from stepup.cli.ctl.people import acts
from stepup.client import StepUpError, UnavailableError
from stepup.client.messages import people as messages
from stepup.domain.audit import EventKind
from stepup.domain.elevation import Outcome


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
async def people(worker):
    """Alice has an authenticator, bob is locked, and carol was asked and has none."""
    await worker.select(OSQUERY)
    await worker.enrol(person("alice"))
    app = await worker.enrol(person("bob"))
    await worker.fail(person("bob"), app, times=5)
    await worker.check(person("carol"))
    await worker.application.asked.flush()
    return {"bob": app}


async def listed(ctl, *options):
    return [each["user_id"] for each in rows(await ctl("people", "list", "--json", *options))]


@pytest.mark.usefixtures("people")
async def test_who_has_not_enrolled_is_one_command(ctl):
    result = await ctl("people", "list", "--not-enrolled")
    assert result.exit_code == 0, result.output
    head, carol = result.stdout.splitlines()
    assert (head.split()[:2], carol.split()[:2]) == (["user", "states"], ["carol", "not_enrolled"])
    [counts] = rows(await ctl("people", "list", "--counts", "--json"))
    assert (counts["enrolled"], counts["not_enrolled"], counts["locked"]) == (2, 1, 1)
    result = await ctl("people", "list", "--counts")
    assert "not_enrolled  1" in result.stdout.splitlines()


@pytest.mark.usefixtures("people")
async def test_people_are_listed_by_state_in_pages(ctl, worker, monkeypatch):
    monkeypatch.setattr("stepup.cli.ctl.people.reading._PAGE", 2)
    assert await listed(ctl) == ["alice", "bob", "carol"]
    assert len(await worker.events(EventKind.OPERATOR_READ)) == 1  # of the first page
    assert await listed(ctl, "--enrolled") == ["alice", "bob"]
    assert await listed(ctl, "--locked") == ["bob"]
    assert await listed(ctl, "--not-enrolled") == ["carol"]
    await worker.begin(person("carol"))
    assert await listed(ctl, "--pending") == ["carol"]
    assert await listed(ctl, "--in-grace") == await listed(ctl, "--suspended") == []


async def test_a_list_takes_one_state(ctl):
    result = await ctl("people", "list", "--locked", "--counts")
    assert (result.exit_code, "give one state" in result.stderr) == (2, True)


@pytest.mark.usefixtures("people")
async def test_a_person_is_shown_with_the_challenges(ctl, worker):
    await worker.challenge(person("bob"), message="Isolate host-7")
    result = await ctl("people", "show", "bob")
    assert result.exit_code == 0, result.output
    facts = dict(line.split("  ", 1) for line in result.stdout.splitlines() if "  " in line)
    assert facts["states"].strip() == "enrolled, locked"
    assert facts["unlocks left today"].strip() == "3"
    assert "Isolate host-7" in result.stdout
    [shown] = rows(await ctl("people", "show", "bob", "--json"))
    assert shown["person"]["user_id"] == "bob"
    assert shown["challenges"][0]["message"] == "Isolate host-7"


async def test_a_person_whom_the_service_does_not_know_is_exit_code_1(ctl):
    result = await ctl("people", "show", "nobody")
    assert (result.exit_code, "Compare the tenant and the user id" in result.stderr) == (1, True)


@pytest.mark.parametrize("act", ["reset", "unlock"])
async def test_an_act_on_an_id_without_an_authenticator_says_what_to_compare(ctl, act):
    result = await ctl("people", act, "nobody", *(["--yes"] if act == "reset" else []))
    assert (result.exit_code, "Compare the tenant and the user id" in result.stderr) == (1, True)


async def test_a_lock_ends_without_a_question(ctl, worker, people):
    result = await ctl("people", "unlock", "bob")
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "bob   done")
    code = people["bob"].code(worker.clock.now())
    assert (await worker.verify(person("bob"), code)).outcome is Outcome.VERIFIED
    [event] = await worker.events(EventKind.USER_UNLOCKED_BY_OPERATOR)
    assert event.details["operator"] == {"name": "sam", "reason": "ticket 4711"}


@pytest.mark.usefixtures("people")
async def test_acts_that_take_something_say_what_ends_and_demand_consent(ctl, worker, running):
    bob = f"bob in acme at {running.target}?"
    questions = {
        "revoke": f"End all elevations of {bob}",
        "reset": f"Remove the authenticator of {bob} This also ends the reset code",
        "forget": f"Forget {bob}",
    }
    kinds = {
        "revoke": EventKind.ELEVATIONS_REVOKED_BY_OPERATOR,
        "reset": EventKind.AUTHENTICATOR_RESET_BY_OPERATOR,
        "forget": EventKind.USER_FORGOTTEN_BY_OPERATOR,
    }
    for act, question in questions.items():
        before = await worker.events()
        result = await ctl("people", act, "bob")
        assert (result.exit_code, question in result.stderr) == (2, True), result.output
        assert "Give --yes" in result.stderr
        assert await worker.events() == before
        result = await ctl("people", act, "bob", "--yes", "--json")
        assert (result.exit_code, rows(result)[0]["outcome"]) == (0, "done")
        [event] = await worker.events(kinds[act])
        assert event.subject_user_id == "bob"
        assert ((await worker.standing(person("bob"))).active is None) == (act != "revoke")


@pytest.mark.usefixtures("people")
async def test_people_of_a_file_get_a_result_each(ctl, tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("# who left\n\nbob\ncarol \n bob\nn\x1b[2Jé\n", "utf-8")
    result = await ctl("people", "reset", "alice", "--from", str(file), "--yes", "--json")
    assert result.exit_code == 1
    assert [(row["user_id"], row["outcome"], row["reason"]) for row in rows(result)] == [
        ("alice", "done", ""),
        ("bob", "done", ""),
        ("carol", "refused", "ENROLLMENT_STATE"),
        ("n\x1b[2Jé", "refused", "INVALID_FIELD"),
    ]
    result = await ctl("people", "reset", "--from", str(file), "--yes")
    assert "\x1b" not in result.output


async def test_the_ids_may_come_from_standard_input(ctl, worker):
    await worker.enrol(person("alice"))
    result = await ctl("people", "forget", "--from", "-", "--yes", typed="alice\n")
    assert result.exit_code == 0, result.output
    assert (await worker.standing(person("alice"))).active is None


def test_without_people_a_command_fails(tmp_path, capsys):
    (tmp_path / "octets").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").write_text("# nobody\n")
    for file, problem in {
        None: "give the id of a USER, or --from",
        tmp_path / "empty": "give the id of a USER, or --from",
        tmp_path / "missing": "missing: No such file",
        tmp_path / "octets": "octets: must be text in UTF-8",
    }.items():
        with pytest.raises(typer.Exit) as ended:
            acts.users_of([], file)
        assert (ended.value.exit_code, problem in capsys.readouterr().err) == (2, True)


@pytest.mark.usefixtures("people")
async def test_a_dry_run_changes_nothing_and_predicts_what_the_server_does(ctl, worker):
    users = ("alice", "bob", "carol", "nobody")
    for act, consent in {"unlock": (), "revoke": "y", "reset": "y", "forget": "y"}.items():
        predicted = await ctl("people", act, *users, "--dry-run", "--json")
        kinds = {event.kind for event in (await worker.events())[-len(users) :]}
        assert kinds == {EventKind.OPERATOR_READ}
        done = await ctl("people", act, *users, *(["--yes"] if consent else []), "--json")
        assert predicted.exit_code == done.exit_code
        words = {"ready": "done", "refused": "refused"}
        assert [words[row["outcome"]] for row in rows(predicted)] == [
            row["outcome"] for row in rows(done)
        ], act


def test_a_dry_run_predicts_what_does_not_end_a_lock():
    enrolled = messages.Person(states=[messages.PERSON_STATE_ENROLLED])
    enrolled.enrollment.SetInParent()
    assert acts.UNLOCK.hindrance(enrolled) == ""
    locked = messages.Person(states=[messages.PERSON_STATE_LOCKED], unlocks_remaining=1)
    locked.enrollment.SetInParent()
    assert acts.UNLOCK.hindrance(locked) == ""
    locked.unlocks_remaining = 0
    assert "3 times a day" in acts.UNLOCK.hindrance(locked)
    locked.enrollment.suspended = True
    assert "only a reset helps" in acts.UNLOCK.hindrance(locked)


async def test_a_failure_in_the_middle_names_those_for_whom_nothing_is_known(ctl, world):
    begun = 0

    async def fail_at_the_second():
        nonlocal begun
        begun += 1
        world.database.writes = begun < 2
        world.database.before_transaction = fail_at_the_second

    world.database.before_transaction = fail_at_the_second
    result = await ctl("people", "revoke", "alice", "bob", "carol", "--yes", "--json")
    assert result.exit_code == 2
    assert [(row["user_id"], row["outcome"]) for row in rows(result)] == [
        ("alice", "done"),
        ("bob", "not_known"),
        ("carol", "not_sent"),
    ]


def refusing(reason, pause, times):
    """A call that the server refuses so many times; it returns the number of calls."""
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        if calls <= times:
            raise UnavailableError("no", reason=reason, retry_after=pause)
        return calls

    return call


def test_a_command_waits_where_the_server_asks_it_to_slow_down(monkeypatch):
    pauses = []
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    second = timedelta(seconds=1)
    assert patience.call_patiently(refusing("CALLER_RATE_LIMITED", second, 2)) == 3
    assert patience.call_patiently(refusing("OVERLOADED", second, 9)) == 10
    assert pauses == [1.0] * 11


@pytest.mark.parametrize(
    ("reason", "pause", "times"),
    [
        ("UNLOCK_LIMIT", timedelta(seconds=1), 1),
        ("STORE_UNAVAILABLE", timedelta(seconds=1), 1),
        ("CALLER_RATE_LIMITED", timedelta(minutes=2), 1),
        ("CALLER_RATE_LIMITED", None, 1),
        ("OVERLOADED", timedelta(seconds=1), 10),
    ],
)
def test_a_command_does_not_repeat_what_may_have_happened_nor_wait_for_long(
    monkeypatch, reason, pause, times
):
    monkeypatch.setattr(patience.time, "sleep", lambda _: None)
    with pytest.raises(StepUpError):
        patience.call_patiently(refusing(reason, pause, times))
