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


def test_a_master_administrator_writes_the_policy_and_nobody_else_does(client, tenant):
    with pytest.raises(Refused) as refused:
        protect(client, person(tenant, "bob"), OSQUERY)
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "ROLE_REQUIRED")
    written = protect(client, administrator(tenant), SHELL, OSQUERY)
    assert policy_of(client, tenant) == written
    assert [selected["operation"] for selected in written["operations"]] == [OSQUERY, SHELL]


def test_weakening_needs_the_administrators_own_code(grpcurl, tenant):
    ada = administrator(tenant)
    update_policy(grpcurl, ada, enabled=True, operations=[{"operation": OSQUERY, "max_age": "60s"}])
    for weaker in (
        {"enabled": False},
        {"operations": []},
        {"operations": [{"operation": OSQUERY, "max_age": "61s"}]},
    ):
        with pytest.raises(Refused) as refused:
            update_policy(grpcurl, ada, **weaker)
        assert refused.value.reason == "ELEVATION_REQUIRED"
    enrol(grpcurl, ada)
    update_policy(grpcurl, ada, enabled=False)
    assert verdict(grpcurl, person(tenant, "bob"), OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")
