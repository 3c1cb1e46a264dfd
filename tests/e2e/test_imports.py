"""Existing authenticators are imported by the command, and their people get reset codes."""

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.people import (
    OSQUERY,
    administrator,
    person,
    protect,
    standing,
    verdict,
    verify,
)
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.sql import execute

pytestmark = pytest.mark.e2e

SECRET = "MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"


def test_an_imported_authenticator_elevates_and_its_person_gets_a_reset_code(
    grpcurl, shared_server, tenant, tmp_path
):
    bob, app = person(tenant, "bob"), AuthenticatorApp(SECRET)
    protect(grpcurl, administrator(tenant), OSQUERY)
    file = tmp_path / "authenticators.txt"
    file.write_text(f"otpauth://totp/Old:bob?secret={SECRET}\n")
    server = ["--address", shared_server.address, "--insecure"]
    actor = ["--tenant", tenant, "--operator", "sam", "--reason", "ticket 1"]
    command = [PROGRAMS / "stepup", "ctl", "people", "import", file, "--apply", *server, *actor]
    done = run(command, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "imported" in done.stdout
    assert SECRET not in done.stdout

    assert not standing(grpcurl, bob)["active"].get("has_reset_code", False)
    # As half a minute later: the code of the step of the import is not accepted.
    execute(
        shared_server.site.database_url,
        "UPDATE authenticators SET last_step = last_step - 1 WHERE tenant_id = :tenant",
        tenant=tenant,
    )
    assert verify(grpcurl, bob, app.code())["outcome"] == "OUTCOME_VERIFIED"
    assert verdict(grpcurl, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    issued = grpcurl.call("EnrollmentService/IssueResetCode", {"actor": bob})
    assert standing(grpcurl, bob)["active"]["has_reset_code"]
    request = {"actor": bob, "reset_code": issued["reset_code"]}
    answer = grpcurl.call("EnrollmentService/ResetEnrollment", request)
    assert answer["outcome"] == "RESET_OUTCOME_ACCEPTED"
