"""What a caller sees of an error; `tests/rpc` has all errors."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import OSQUERY, check, person, verify

pytestmark = pytest.mark.e2e


def test_an_unknown_operation_is_an_error_and_no_decision(client, tenant):
    with pytest.raises(Refused) as refused:
        check(client, person(tenant, "bob"), "response.unheard_of")
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "UNKNOWN_OPERATION")
    assert refused.value.detail("ErrorInfo")["domain"] == "stepup"


def test_a_missing_field_is_named(client, tenant):
    with pytest.raises(Refused) as refused:
        check(client, {"tenant_id": tenant, "user_id": "bob"}, OSQUERY)
    assert refused.value.message == "actor.session_id is required"
    assert refused.value.detail("BadRequest")["field_violations"] == [
        {"field": "actor.session_id", "description": "is required"}
    ]


@pytest.mark.parametrize("code", ["12345 ", "\N{FULLWIDTH DIGIT ONE}" * 6])
def test_a_malformed_code_is_refused_and_not_repeated(client, tenant, code):
    with pytest.raises(Refused) as refused:
        verify(client, person(tenant, "bob"), code)
    assert refused.value.detail("BadRequest")["field_violations"][0]["field"] == "code"
    assert code not in str(refused.value)
