"""docs/auditing.md tells every kind of event, with all of its details."""

import re
from pathlib import Path

from support.otp import wrong_code_at
from support.people import administrator, person

from stepup.domain.audit import EventKind
from stepup.domain.reset_code import ResetCode

ALICE, BOB, ROOT = person("alice"), person("bob"), administrator()
DOCUMENT = Path(__file__).parents[2] / "docs" / "auditing.md"


def documented():
    """Details by kind, of the table that says what happened."""
    table = DOCUMENT.read_text().partition("| kind | happened |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    # What stands in brackets, or after a colon, are values.
    plain = [(kind, re.sub(r"\(.*?\)|:.*", "", details)) for kind, _, details in rows]
    return {kind.strip(" `"): set(re.findall(r"`(\w+)`", details)) for kind, details in plain}


async def everything(worker):
    """Bring about every kind of event that a use case of a person has."""
    app = await worker.enrol(ALICE)
    await worker.elevate(ALICE, app)
    await worker.set_account_mfa(ALICE, enabled=True)
    await worker.select("response.run_osquery")
    answer = await worker.check(ALICE)
    await worker.retry(ALICE, answer.receipt)
    await worker.fail(ALICE, app)
    await worker.reset(ALICE, ResetCode.generate())
    await worker.remove(ALICE)

    screen = await worker.begin(BOB)
    await worker.confirm(BOB, wrong_code_at(screen.secret.octets, worker.clock.now()))
    await worker.cancel(BOB)
    app = await worker.enrol(BOB)
    await worker.reset(BOB, app.reset_code)

    await worker.enrol(BOB)
    await worker.wizard(ROOT)
    await worker.admin_reset(ROOT, "bob")
    await worker.revoke(ROOT)


async def test_every_kind_of_event_is_documented_with_all_its_details(worker):
    await everything(worker)
    # By what the pipeline does before any use case: it is told in tests/rpc.
    expected = {EventKind.CLAIM_REFUSED.value: {"session", "method", "claim"}}
    for event in await worker.events():
        expected.setdefault(event.kind.value, set()).update(event.details)
    assert set(expected) == {kind.value for kind in EventKind}
    assert {kind: {"session", *details} for kind, details in documented().items()} == expected
