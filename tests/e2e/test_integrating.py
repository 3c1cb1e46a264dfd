"""The programs of docs/integrating.md run as they are printed there."""

import re
import threading
from datetime import UTC, datetime

import pytest
from stepup_tests.e2e.enrolled import enrolled
from stepup_tests.e2e.people import OSQUERY, SHELL, administrator, update_policy
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.readme import section
from stepup_tests.otp import code_at
from stepup_tests.places import ROOT

from stepup.client import StepUpClient
from stepup.client.messages import challenge
from stepup.domain.totp import TotpSecret

pytestmark = pytest.mark.e2e

SECRET = TotpSecret(bytes(range(20)))


@pytest.fixture
def stepup(shared_server, tenant, grpcurl):
    """A client, for a tenant whose Bob has an authenticator."""
    selected = [{"operation": OSQUERY}, {"operation": SHELL, "every_time": True}]
    update_policy(grpcurl, administrator(tenant), enabled=True, operations=selected)
    enrolled(shared_server, tenant, {"bob": SECRET})
    with StepUpClient(shared_server.address) as client:
        yield client


def test_the_three_stories_of_challenges(stepup, tenant):
    text = section((ROOT / "docs/integrating.md").read_text(), "Challenges").replace("acme", tenant)
    console, agent, run = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"stepup": stepup}
    exec(console, names)  # noqa: S102  # our own page
    shown = []

    def types_a_typo_first(created):
        shown.append(created.items[0].label)
        return code_at(SECRET.octets, datetime.now(UTC)) if len(shown) > 1 else "000000"

    assert names["start_shell"](stepup, types_a_typo_first)
    assert shown == 2 * ["Laptop of the reception (host-7)"]

    exec(agent, names)  # noqa: S102  # our own page
    bob, asked = names["BOB"], []
    waiting = threading.Thread(
        target=lambda: asked.append(names["ask"](stepup, bob, [names["SHELL"]], "Incident 7"))
    )
    waiting.start()
    pending = challenge.CHALLENGE_STATE_PENDING

    def the_pending_one():
        found = stepup.challenges.list(bob).challenges
        return [each for each in found if each.state == pending]

    [found] = eventually(the_pending_one, "the agent has created a challenge")
    stepup.challenges.decline(bob, challenge_id=found.challenge_id)
    waiting.join()
    assert asked == [None]

    # The person does not answer here.
    exec(run, names)  # noqa: S102  # our own page
    assert len(names["answers"]) == 50
    assert {each.challenge_rejection for each in names["answers"]} == {"PENDING"}
