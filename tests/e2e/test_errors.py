"""What a caller sees of an error."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import OSQUERY, check, person, verify

pytestmark = pytest.mark.e2e


def test_an_unknown_operation_is_an_error_and_no_decision(client, tenant):
    with pytest.raises(Refused) as refused:
        check(client, person(tenant, "bob"), "response.unheard_of")
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "UNKNOWN_OPERATION")


def test_a_missing_field_is_named(client, tenant):
    with pytest.raises(Refused) as refused:
        check(client, {"tenant_id": tenant, "user_id": "bob"}, OSQUERY)
    assert refused.value.message == "actor.session_id is required"
    assert refused.value.detail("BadRequest")["field_violations"] == [
        {"field": "actor.session_id", "description": "is required"}
    ]


def test_every_error_says_whose_it_is(client, tenant):
    with pytest.raises(Refused) as refused:
        check(client, person(tenant, ""), OSQUERY)
    info = refused.value.detail("ErrorInfo")
    assert (info["domain"], info["reason"]) == ("stepup", "INVALID_FIELD")


FULL_WIDTH = "\N{FULLWIDTH DIGIT ONE}" * 6


@pytest.mark.parametrize("code", ["12345", "1234567", "12345 ", "12345a", FULL_WIDTH])
def test_a_malformed_code_is_refused_and_not_repeated(client, tenant, code):
    with pytest.raises(Refused) as refused:
        verify(client, person(tenant, "bob"), code)
    assert refused.value.detail("BadRequest")["field_violations"][0]["field"] == "code"
    assert code not in str(refused.value)


def test_an_unknown_enum_value_is_refused(grpcurl, tenant):
    with pytest.raises(Refused) as refused:
        check(grpcurl, person(tenant, "bob", account_type=99), OSQUERY)
    assert refused.value.reason == "INVALID_FIELD"


def test_a_playbook_run_without_its_trigger_is_refused(client, tenant):
    run = {"playbook_id": "contain", "run_id": "r-1"}
    with pytest.raises(Refused) as refused:
        check(client, person(tenant, "bob", playbook_run=run), OSQUERY)
    assert refused.value.detail("BadRequest")["field_violations"][0]["field"] == (
        "actor.playbook_run.trigger"
    )
