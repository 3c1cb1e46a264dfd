"""What was acknowledged is there after `kill -9` and a restart (S2, S4, S13)."""

import json
from dataclasses import dataclass

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    check,
    enrol,
    events,
    person,
    policy_of,
    protect,
    standing,
    verdict,
    verify,
)
from stepup_tests.e2e.processes import PROGRAMS, eventually, processes_in, run
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = pytest.mark.e2e

TENANT = "acme"
ALICE, BOB, CAROL, DAVE, ERIN = (
    person(TENANT, user) for user in ("alice", "bob", "carol", "dave", "erin")
)


@dataclass
class Recovered:
    """A client of the restarted server, and what the killed one had acknowledged."""

    client: GrpCurl
    policy: dict
    enrollment: dict
    redeemed: dict
    revoked: dict
    events: list
    carols_code_again: dict
    repeated: tuple[dict, dict]


@pytest.fixture(scope="module")
def recovered(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("recovered")) as server:
        client = GrpCurl(server)
        policy = protect(client, administrator(TENANT), OSQUERY)
        enrol(client, ALICE)
        authorised = check(client, ALICE, OSQUERY)
        check(client, ALICE | {"retry_receipt": authorised["receipt"]}, OSQUERY)
        bob = enrol(client, BOB)
        for _ in range(5):
            verify(client, BOB, bob.app.wrong_code())
        enrol(client, DAVE)
        sign_out = {"actor": DAVE, "scope": "REVOCATION_SCOPE_SESSION"}
        client.call("StepUpService/RevokeElevations", sign_out)
        enrol(client, ERIN)
        revoked = check(client, ERIN, OSQUERY)
        everywhere = {"actor": ERIN, "scope": "REVOCATION_SCOPE_USER"}
        client.call("StepUpService/RevokeElevations", everywhere)
        enrollment = standing(client, ALICE)["active"]
        listed = events(client, TENANT)
        carol = enrol(client, CAROL)
        retry = {
            "actor": CAROL | {"retry_receipt": check(client, CAROL, OSQUERY)["receipt"]},
            "operation": OSQUERY,
            "request_id": "6f2c1f3e-0000-4000-8000-000000000001",
        }
        first = client.call("StepUpService/CheckStepUp", retry)
        server.kill()
        server.restart()
        again = verify(client, CAROL, carol.code)
        repeated = first, client.call("StepUpService/CheckStepUp", retry)
        yield Recovered(client, policy, enrollment, authorised, revoked, listed, again, repeated)


def test_the_policy_is_there(recovered):
    assert policy_of(recovered.client, TENANT) == recovered.policy


def test_an_enrollment_is_there(recovered):
    assert standing(recovered.client, ALICE)["active"] == recovered.enrollment
    assert standing(recovered.client, CAROL)["active"]  # completed by one of the last calls


def test_a_used_code_stays_used(recovered):
    assert recovered.carols_code_again["outcome"] == "OUTCOME_REJECTED"
    only_rejected = {"user_id": "carol", "kinds": ["AUDIT_EVENT_KIND_OTP_REJECTED"]}
    [rejected] = events(recovered.client, TENANT, filter=only_rejected)
    assert rejected["details"]["cause"] == "repeated"


def test_a_lock_stays(recovered):
    assert verify(recovered.client, BOB, "000000")["outcome"] == "OUTCOME_THROTTLED"


def test_a_redeemed_receipt_stays_redeemed(recovered):
    retry = ALICE | {"retry_receipt": recovered.redeemed["receipt"]}
    answer = check(recovered.client, retry, OSQUERY)
    assert answer["receipt_rejection"] == "RECEIPT_REJECTION_ALREADY_USED"
    assert answer["reason"] != "DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"
    log = recovered.client.server.data_dir / "decisions.jsonl"
    [line] = [
        line
        for line in map(json.loads, log.read_text().splitlines())
        if line["decision_id"] == answer["decision_id"]
    ]
    assert line["receipt_rejection"] == "already_used"
    assert line["receipt_of"] == recovered.redeemed["decision_id"]


def test_a_retry_that_is_sent_again_after_the_restart_shares_the_redemption(recovered):
    first, again = recovered.repeated
    assert first["reason"] == "DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"
    assert again == first


def test_s10_a_revoked_receipt_stays_revoked(recovered):
    answer = check(
        recovered.client, ERIN | {"retry_receipt": recovered.revoked["receipt"]}, OSQUERY
    )
    assert answer["receipt_rejection"] == "RECEIPT_REJECTION_REVOKED"
    assert answer["reason"] == "DECISION_REASON_NOT_ELEVATED"


def test_the_audit_trail_goes_on_where_it_ended(recovered):
    listed = events(recovered.client, TENANT)
    assert listed[: len(recovered.events)] == recovered.events
    assert [int(event["sequence"]) for event in listed] == list(range(1, len(listed) + 1))


def test_an_elevation_is_there_or_a_code_is_asked_for(recovered):
    assert verdict(recovered.client, ALICE, OSQUERY) in {
        ("ALLOWED", "ELEVATED"),
        ("STEP_UP_REQUIRED", "NOT_ELEVATED"),
    }


def test_an_ended_elevation_stays_ended_and_no_other_session_is_elevated(recovered):
    for actor in (DAVE, person(TENANT, "alice", "elsewhere")):
        assert verdict(recovered.client, actor, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")


def test_only_the_owner_can_read_the_data_directory(recovered):
    data_dir = recovered.client.server.data_dir
    assert not [path for path in [data_dir, *data_dir.rglob("*")] if path.stat().st_mode & 0o077]


@pytest.mark.topologies(EMBEDDED, reason="elsewhere servers may share what they have")
def test_a_second_server_on_the_same_data_directory_is_refused(shared_server, tmp_path):
    command = [PROGRAMS / "stepup", "serve", "--insecure", "--listen", "127.0.0.1:0"]
    second = run([*command, "--data-dir", shared_server.data_dir], tmp_path)
    assert second.returncode == 2
    assert "in use" in second.stderr
    assert str(shared_server.data_dir) in second.stderr


def test_a_server_that_ends_leaves_nothing_behind_and_keeps_what_it_knew(server, tenant):
    client, bob = GrpCurl(server), person(tenant, "bob")
    protect(client, administrator(tenant), OSQUERY)
    enrol(client, bob)
    for end in (server.terminate, server.interrupt):
        assert end() == 0
        assert not processes_in(server.data_dir)
        assert not list(server.temporary.iterdir())
        server.start()
    assert verdict(client, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    server.kill()
    eventually(lambda: not processes_in(server.data_dir), "the embedded store dies with the server")
