"""`stepup ctl challenges`, against a server."""

import json

import pytest
from stepup_tests.people import person
from stepup_tests.worker import OSQUERY

from stepup.domain.audit import EventKind


@pytest.fixture
async def challenge_id(worker):
    await worker.select(OSQUERY)
    await worker.enrol(person("bob"))
    made = await worker.challenge(
        person("bob"), (OSQUERY, "host-7"), message="Look for \u0130D 7 [bold]"
    )
    return str(made)


async def test_the_challenges_of_a_person_are_listed(ctl, challenge_id):
    result = await ctl("challenges", "list", "bob")
    assert result.exit_code == 0, result.output
    head, line = result.stdout.splitlines()
    assert head.split()[:2] == ["challenge", "state"]
    assert line.startswith(f"{challenge_id}  pending")
    assert line.endswith("Look for \u0130D 7 [bold]")
    [listed] = map(
        json.loads, (await ctl("challenges", "list", "bob", "--json")).stdout.splitlines()
    )
    assert (listed["challenge_id"], listed["state"]) == (challenge_id, "CHALLENGE_STATE_PENDING")


async def test_a_challenge_is_shown_with_its_actions(ctl, challenge_id):
    result = await ctl("challenges", "show", challenge_id)
    assert result.exit_code == 0, result.output
    assert f"{OSQUERY}  host-7  Host host-7  yes           -" in result.stdout.splitlines()
    shown = json.loads((await ctl("challenges", "show", challenge_id, "--json")).stdout)
    assert shown["items"][0]["target"] == "host-7"


async def test_a_challenge_is_cancelled_with_consent_only(ctl, worker, challenge_id, running):
    result = await ctl("challenges", "cancel", challenge_id)
    question = f"{challenge_id} in acme at {running.target}? "
    assert (result.exit_code, question in result.stderr) == (2, True)
    assert await worker.events(EventKind.CHALLENGE_CANCELLED_BY_OPERATOR) == []
    result = await ctl("challenges", "cancel", challenge_id, "--yes")
    assert (result.exit_code, "cancelled" in result.stdout) == (0, True)
    [event] = await worker.events(EventKind.CHALLENGE_CANCELLED_BY_OPERATOR)
    assert event.details["operator"]["reason"] == "ticket 4711"


async def test_a_challenge_that_is_not_known_is_exit_code_1(ctl):
    unknown = "00000000-0000-4000-8000-000000000000"
    result = await ctl("challenges", "cancel", unknown, "--yes")
    assert (result.exit_code, "list the challenges" in result.stderr) == (1, True)
