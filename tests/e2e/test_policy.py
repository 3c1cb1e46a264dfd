"""Who changes a policy, and with what."""

import pytest
from stepup_tests.e2e.clients import Refused
from stepup_tests.e2e.people import (
    OSQUERY,
    SHELL,
    administrator,
    enrol,
    person,
    policy_of,
    protect,
    update_policy,
    verdict,
)

pytestmark = pytest.mark.e2e


def weaker(change):
    return {
        "disabled": {"enabled": False},
        "deselected": {"operations": [{"operation": OSQUERY, "max_age": "60s"}]},
        "longer max_age": {"operations": [{"operation": OSQUERY}, {"operation": SHELL}]},
    }[change]


@pytest.fixture
def ada(client, tenant):
    admin = administrator(tenant)
    selected = [{"operation": OSQUERY, "max_age": "60s"}, {"operation": SHELL}]
    update_policy(client, admin, enabled=True, operations=selected)
    return admin


def test_the_policy_is_read_as_it_was_written(client, tenant):
    written = protect(client, administrator(tenant), SHELL, OSQUERY)
    assert policy_of(client, tenant) == written
    assert [selected["operation"] for selected in written["operations"]] == [OSQUERY, SHELL]


def test_enabling_needs_a_master_administrator(client, tenant):
    with pytest.raises(Refused) as refused:
        protect(client, person(tenant, "bob"), OSQUERY)
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")


@pytest.mark.parametrize("change", ["disabled", "deselected", "longer max_age"])
def test_weakening_needs_the_administrators_own_code(client, ada, change):
    with pytest.raises(Refused) as refused:
        update_policy(client, ada, **weaker(change))
    assert (refused.value.code, refused.value.reason) == (
        "FAILED_PRECONDITION",
        "ELEVATION_REQUIRED",
    )


def test_an_elevated_administrator_weakens(client, ada):
    enrol(client, ada)
    update_policy(client, ada, **weaker("disabled"))
    assert verdict(client, person(ada["tenant_id"], "bob"), OSQUERY) == (
        "ALLOWED",
        "MFA_NOT_ENABLED",
    )


def test_a_field_outside_the_mask_stays(client, ada):
    selected = [{"operation": OSQUERY, "max_age": "30s"}, {"operation": SHELL}]
    update_policy(client, ada, operations=selected)
    assert policy_of(client, ada["tenant_id"])["enabled"] is True


def test_a_stale_etag_is_refused(client, ada):
    update = {
        "actor": ada,
        "policy": {"enabled": True, "etag": "0123456789abcdef"},
        "update_mask": client.mask("enabled"),
    }
    with pytest.raises(Refused) as refused:
        client.call("PolicyService/UpdatePolicy", update)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "ETAG_MISMATCH")


def test_a_tenants_policy_is_nobody_elses(client, ada):
    stranger = person(f"not-{ada['tenant_id']}", "bob")
    assert verdict(client, stranger, OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")


def test_the_catalogue_has_the_shipped_categories_in_order(client):
    categories = client.call("PolicyService/ListOperations")["categories"]
    assert {category["id"]: len(category["operations"]) for category in categories} == {
        "iam": 3,
        "response": 8,
        "playbook": 4,
    }
