"""docs/auditing.md tells every kind of event and every fact of a decision, and no others."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from stepup_tests.challenges import approve
from stepup_tests.otp import wrong_code_at
from stepup_tests.people import administrator, deprovisioning, operator, person, playbook_run
from stepup_tests.places import ROOT
from stepup_tests.worker import OSQUERY

from stepup.domain.actor import CallerId
from stepup.domain.audit import EventKind
from stepup.domain.operations import OperationId
from stepup.domain.reset_code import ResetCode

ALICE, BOB, ADMINISTRATOR = person("alice"), person("bob"), administrator()
OPERATOR = operator()
KEY_URI = "otpauth://totp/carol?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
DOCUMENT = ROOT / "docs" / "auditing.md"
OPERATING = DOCUMENT.with_name("operating.md")


def rows_of(heading):
    """The cells of the table that begins with this heading."""
    table = DOCUMENT.read_text().partition(heading)[2].partition("\n\n")[0]
    return [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| `")]


def documented_events():
    """Details by kind, of the table that says what happened."""
    # What stands in brackets, or after a colon, are values.
    plain = [
        (kind, re.sub(r"\(.*?\)|:.*", "", details))
        for kind, _, details in rows_of("| kind | event |")
    ]
    return {kind.strip(" `"): set(re.findall(r"`(\w+)`", details)) for kind, details in plain}


async def everything(worker):
    """Bring about every kind of event."""
    for _ in range(2):
        await worker.revoke(ALICE)
    await worker.advance(seconds=30)
    await worker.prune()
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.set_account_mfa(ALICE, enabled=True)
    await worker.issue_reset_code(ALICE)
    await worker.select(OSQUERY)
    answer = await worker.check(ALICE)
    await worker.retry(ALICE, answer.receipt)
    challenge_id = await worker.challenge(ALICE)
    await worker.advance(seconds=30)
    await worker.answer(ALICE, challenge_id, app.code(worker.clock.now()))
    await worker.check(replace(ALICE, challenge_id=challenge_id))
    challenge_id = await worker.challenge(ALICE)
    for _ in range(6):
        await worker.answer(ALICE, challenge_id, app.wrong_code(worker.clock.now()))
    await worker.reset(ALICE, ResetCode.generate())
    await worker.remove(ALICE)

    screen = await worker.begin(BOB)
    await worker.confirm(BOB, wrong_code_at(screen.secret.octets, worker.clock.now()))
    await worker.cancel(BOB)
    app = await worker.enrol(BOB)
    await worker.challenge(BOB)
    app = await worker.wizard(BOB, app.reset_code)
    await worker.challenge(BOB)
    await worker.reset(BOB, app.reset_code)

    await worker.enrol(BOB)
    await worker.challenge(BOB)
    administrators = await worker.wizard(ADMINISTRATOR)
    await worker.admin_reset(ADMINISTRATOR, "bob")
    await worker.challenge(ADMINISTRATOR)
    await worker.revoke(ADMINISTRATOR)
    await others_act(worker, administrators)

    await worker.decline(BOB, await worker.challenge(BOB))
    await worker.cancel_challenge(BOB, await worker.challenge(BOB))
    await worker.challenge(BOB)
    await worker.advance(minutes=10)
    await worker.keep_house()
    await worker.application.refused_claims(
        worker.context(ALICE), "StepUpService/CheckStepUp", OperationId(OSQUERY), "saml_account"
    )


async def others_act(worker, app):
    """Bring about the events of all who act on a user of a tenant."""
    await worker.advance(seconds=30)
    await worker.elevate(ADMINISTRATOR, app)
    await worker.import_(OPERATOR, ("carol", KEY_URI))
    for actor in (ADMINISTRATOR, OPERATOR):
        await worker.fail(BOB, await worker.enrol(BOB), times=5)
        await worker.unlock(actor, "bob")
        await worker.challenge(BOB)
        await worker.forget(actor, "bob")
    await worker.update_policy(OPERATOR, issuer="Acme")
    await worker.list_people(OPERATOR)
    await worker.cancel_challenge(OPERATOR, await worker.challenge(BOB))
    for end in (worker.forget, worker.admin_reset, worker.revoke_for):
        await worker.enrol(BOB)
        await worker.challenge(BOB)
        await end(deprovisioning() if end == worker.forget else OPERATOR, "bob")
    await worker.challenge(BOB)
    await worker.break_glass("bob")
    await worker.leave_portal(*await worker.redeem(await worker.open_portal(person("dave"))))


def documented_hash(session_id):
    """What the command of docs/operating.md answers, and the section that it stands in."""
    section = OPERATING.read_text().partition("### The hash of a session\n")[2].partition("\n#")[0]
    [command] = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    ran = subprocess.run(
        ["bash", "-c", command],
        input=f"{session_id}\n",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    return ran.stdout.strip(), section


async def test_s9_the_documented_command_finds_a_session_in_the_logs(world, worker):
    session = person("alice", session="s-4711")
    await worker.check(session)
    await worker.begin(session)
    computed, section = documented_hash("s-4711")
    assert [line["session"] for line in world.decisions()] == [computed]
    assert [event.details["session"] for event in await worker.events()] == [computed]
    assert f"`{computed}`" in section
    assert f'"session": "{computed}"' in DOCUMENT.read_text()


async def test_every_kind_of_event_is_documented_with_all_its_details(worker):
    await everything(worker)
    expected = {}
    for event in await worker.events():
        expected.setdefault(event.kind.value, set()).update(event.details)
    assert set(expected) == {kind.value for kind in EventKind}
    # The text above the table has these: they depend on who acts, and not on the kind.
    common = {"session", "request_id", "operator", "os_user", "host"}
    assert documented_events() == {kind: names - common for kind, names in expected.items()}


def documented_facts():
    """The keys of the table about the decision log, by where they stand."""
    found = {}
    for keys, where, _ in rows_of("| key | in |"):
        found.setdefault(where, set()).update(re.findall(r"`(\w+)`", keys))
    return found


@pytest.fixture
async def lines(world, worker):
    """Of decisions for every reason that leaves facts of its own; the last is a retry's."""
    await worker.select(OSQUERY)
    app = await worker.enrol(ALICE)
    await worker.check(replace(ALICE, playbook_run=playbook_run()))
    await worker.check(ALICE)
    globex = administrator(tenant="globex")
    enroll_by = worker.clock.now() + timedelta(days=1)
    await worker.update_policy(globex, enabled=True, selected=[OSQUERY], enroll_by=enroll_by)
    await worker.check(globex)
    await worker.elevate(ALICE, app)
    receipt = (await worker.check(ALICE)).receipt
    approved = await approve(worker, ALICE, app)
    await worker.check(approved)
    await worker.check(approved)
    await worker.check(approved, caller=CallerId("console"))
    other = (await worker.check(ALICE, target="host-3")).receipt
    for _ in range(2):
        await worker.retry(ALICE, other, target="host-3", request_id=UUID(int=1))
    await worker.retry(ALICE, receipt, target="host-2")
    await worker.retry(ALICE, "forged")
    await worker.retry(ALICE, receipt)
    return world.decisions()


def test_every_fact_of_a_decision_is_documented_and_no_other(lines):
    assert set().union(*documented_facts().values()) == set().union(*lines)


def test_the_facts_of_every_line_are_documented_as_such(lines):
    assert documented_facts()["every line"] == set(lines[0]).intersection(*lines)


@pytest.mark.parametrize(
    "reason", ["elevated", "challenge_approved", "exempt_timed_out_retry", "enrollment_grace"]
)
def test_what_is_documented_for_one_reason_stands_in_its_lines_only(lines, reason):
    facts = documented_facts()[f"`{reason}`"]
    assert [facts & set(line) for line in lines] == [
        facts if line["reason"] == reason else set() for line in lines
    ]


def test_the_example_of_a_line_has_the_facts_of_a_retry(lines):
    [example] = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert list(json.loads(example)) == list(lines[-1])
