"""For whom and for what no code is asked (S16)."""

import pytest
from stepup_tests.e2e.clients import GrpCurl, Refused
from stepup_tests.e2e.people import (
    API_KEYS,
    OSQUERY,
    administrator,
    check,
    enrol,
    events,
    person,
    protect,
    verdict,
)
from stepup_tests.e2e.topologies import DIRECT

pytestmark = pytest.mark.e2e


def run_of_a_playbook(trigger):
    return {"playbook_id": "contain", "run_id": "r-1", "trigger": f"PLAYBOOK_TRIGGER_{trigger}"}


@pytest.fixture
def protected(grpcurl, tenant):
    protect(grpcurl, administrator(tenant), OSQUERY, API_KEYS)
    return tenant


def sign_out(client, actor):
    request = {"actor": actor, "scope": "REVOCATION_SCOPE_SESSION"}
    client.call("StepUpService/RevokeElevations", request)


def test_response_actions_of_managed_services_and_automatic_playbooks_are_exempt(
    grpcurl, protected
):
    asked_to_enrol = ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    olga = person(protected, "olga", team="TEAM_MANAGED_SERVICES_OPERATIONS")
    assert verdict(grpcurl, olga, OSQUERY) == ("ALLOWED", "EXEMPT_MANAGED_SERVICES")
    assert verdict(grpcurl, olga, API_KEYS) == asked_to_enrol
    automatic, manual = (
        person(protected, "engine", playbook_run=run_of_a_playbook(trigger))
        for trigger in ("AUTOMATIC", "MANUAL")
    )
    assert verdict(grpcurl, automatic, OSQUERY) == ("ALLOWED", "EXEMPT_AUTOMATIC_PLAYBOOK")
    assert verdict(grpcurl, manual, OSQUERY) == asked_to_enrol


def test_a_receipt_exempts_one_retry(grpcurl, protected):
    bob = person(protected, "bob")
    enrol(grpcurl, bob)
    receipt = check(grpcurl, bob, OSQUERY, "host-7")["receipt"]
    sign_out(grpcurl, bob)
    assert verdict(grpcurl, bob, OSQUERY, "host-7") == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    retry = bob | {"retry_receipt": receipt}
    assert verdict(grpcurl, retry, OSQUERY, "host-7") == ("ALLOWED", "EXEMPT_TIMED_OUT_RETRY")
    again = check(grpcurl, retry, OSQUERY, "host-7")
    assert again["decision"] == "DECISION_STEP_UP_REQUIRED"
    assert again["receipt_rejection"] == "RECEIPT_REJECTION_ALREADY_USED"


def test_s16_a_receipt_of_an_automatic_run_exempts_no_manual_one(grpcurl, protected):
    engine = person(protected, "engine", playbook_run=run_of_a_playbook("AUTOMATIC"))
    receipt = check(grpcurl, engine, OSQUERY, "host-7")["receipt"]
    for run in ({}, {"playbook_run": run_of_a_playbook("MANUAL")}):
        retry = person(protected, "engine", retry_receipt=receipt, **run)
        answer = check(grpcurl, retry, OSQUERY, "host-7")
        assert answer["decision"] == "DECISION_ENROLLMENT_REQUIRED"
        assert answer["receipt_rejection"] == "RECEIPT_REJECTION_EXEMPTION_NOT_CLAIMED"


@pytest.mark.topologies(*DIRECT, reason="Envoy sends no call to a server that records no decision")
def test_s13_a_full_disk_under_the_decision_log_uses_up_no_receipt(start_server):
    server = start_server()
    client = GrpCurl(server)
    bob = person("acme", "bob")
    protect(client, administrator("acme"), OSQUERY)
    enrol(client, bob)
    targets = ["host-1", "host-2"]
    receipts = [check(client, bob, OSQUERY, target)["receipt"] for target in targets]
    sign_out(client, bob)
    retries = [bob | {"retry_receipt": receipt} for receipt in receipts]
    batch = {
        "actor": retries[1],
        "checks": [{"operation": OSQUERY, "target": target} for target in targets],
    }
    log = server.data_dir / "decisions.jsonl"
    kept = log.rename(log.with_name("kept.jsonl"))
    log.symlink_to("/dev/full")
    try:
        for _ in range(3):
            with pytest.raises(Refused, match="UNAVAILABLE"):
                check(client, retries[0], OSQUERY, "host-1")
            with pytest.raises(Refused, match="UNAVAILABLE"):
                client.call("StepUpService/BatchCheckStepUp", batch)
    finally:
        log.unlink()
        kept.rename(log)

    kind = {"kinds": ["AUDIT_EVENT_KIND_RECEIPT_REDEEMED"]}
    assert not events(client, "acme", filter=kind)
    assert verdict(client, retries[0], OSQUERY, "host-1") == ("ALLOWED", "EXEMPT_TIMED_OUT_RETRY")
    _, redeemed = client.call("StepUpService/BatchCheckStepUp", batch)["decisions"]
    assert redeemed["reason"] == "DECISION_REASON_EXEMPT_TIMED_OUT_RETRY"
    assert len(events(client, "acme", filter=kind)) == 2
