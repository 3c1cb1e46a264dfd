"""The only administrator of a business has lost the authenticator and the reset code (S10, S16)."""

import os
import pwd
import socket
import time

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    SHELL,
    SIGN_IN,
    administrator,
    enrol,
    events,
    protect,
    update_policy,
    verdict,
    verify,
)
from stepup_tests.e2e.processes import PROGRAMS, run

from stepup.domain.reset_code import ResetCode

pytestmark = pytest.mark.e2e

EVENT = "AUDIT_EVENT_KIND_AUTHENTICATOR_RESET_BY_BREAK_GLASS"


@pytest.fixture
def on_the_host(shared_server):
    """Runs a command with the server's settings, database and key ring, while it serves."""

    def command(*arguments):
        arguments = (PROGRAMS / "stepup", *arguments, "--data-dir", shared_server.data_dir)
        done = run(arguments, shared_server.data_dir.parent)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


def refusals(client, ada):
    """Why each call is refused that could help an administrator without codes."""
    calls = {
        "EnrollmentService/AdminResetEnrollment": {"user_id": ada["user_id"], "reason": "lost"},
        "EnrollmentService/RemoveEnrollment": {},
        "EnrollmentService/BeginEnrollment": {},
        "EnrollmentService/IssueResetCode": {},
        "PolicyService/UpdatePolicy": {
            "policy": {"etag": policy_etag(client, ada), "enabled": False},
            "update_mask": client.mask("enabled"),
        },
    }
    for method, request in calls.items():
        with pytest.raises(Refused) as refused:
            client.call(method, {"actor": ada, **request})
        yield refused.value.reason


def policy_etag(client, ada):
    request = {"tenant_id": ada["tenant_id"]}
    return client.call("PolicyService/GetPolicy", request)["policy"]["etag"]


def test_s10_break_glass_is_the_way_back_of_an_only_administrator(grpcurl, tenant, on_the_host):
    # A thief has the telephone, the paper with the reset code, and the session of Monday.
    stolen, ada = administrator(tenant), administrator(tenant, session="tuesday")
    protect(grpcurl, stolen, OSQUERY, SHELL)
    lost = enrol(grpcurl, stolen)
    assert verdict(grpcurl, ada, SIGN_IN) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")
    assert verify(grpcurl, ada, lost.app.wrong_code())["outcome"] == "OUTCOME_REJECTED"
    reset = {"actor": ada, "reset_code": ResetCode.generate().text}
    tried = grpcurl.call("EnrollmentService/ResetEnrollment", reset)
    assert tried["outcome"] == "RESET_OUTCOME_REJECTED"
    not_for_oneself, *others = refusals(grpcurl, ada)
    assert not_for_oneself == "NOT_FOR_ONESELF"
    assert set(others) == {"ELEVATION_REQUIRED"}

    assert verdict(grpcurl, stolen, OSQUERY) == ("ALLOWED", "ELEVATED")
    options = ("--tenant", tenant, "--user", "ada", "--reason", "ticket 4711")
    said = on_the_host("break-glass", "reset-enrollment", *options)
    assert "next: the person signs in again, enrols a new authenticator" in said
    time.sleep(2)
    assert verdict(grpcurl, stolen, OSQUERY) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")

    assert verdict(grpcurl, ada, SIGN_IN) == ("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
    enrol(grpcurl, ada)
    assert verdict(grpcurl, ada, SIGN_IN) == ("ALLOWED", "ELEVATED")
    update_policy(grpcurl, ada, operations=[{"operation": OSQUERY}])
    assert verdict(grpcurl, stolen, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")

    assert on_the_host("audit", "verify", "--tenant", tenant).endswith(", intact\n")
    [event] = events(grpcurl, tenant, filter={"kinds": [EVENT]})
    assert event["subject_user_id"] == "ada"
    assert "actor_user_id" not in event
    assert event["details"] | {"enrollment_id": ""} == {
        "os_user": pwd.getpwuid(os.getuid()).pw_name,
        "host": socket.gethostname(),
        "reason": "ticket 4711",
        "enrollment_id": "",
    }
