"""What `make e2e-topologies` runs on is what it says, and there is service on it."""

import pytest
from stepup_tests.e2e.clients import GrpCurl
from stepup_tests.e2e.people import OSQUERY, administrator, enrol, person, protect, verdict
from stepup_tests.e2e.sql import execute
from stepup_tests.e2e.topologies import EMBEDDED, ENVOY, NOT_EMBEDDED, TOPOLOGY

pytestmark = pytest.mark.e2e


@pytest.fixture
def bob(grpcurl, tenant):
    """Enrolled and elevated."""
    actor = person(tenant, "bob")
    protect(grpcurl, administrator(tenant), OSQUERY)
    enrol(grpcurl, actor)
    return actor


def test_who_signs_out_has_to_give_a_code_again(grpcurl, bob):
    assert verdict(grpcurl, bob, OSQUERY) == ("ALLOWED", "ELEVATED")
    sign_out = {"actor": bob, "scope": "REVOCATION_SCOPE_SESSION"}
    grpcurl.call("StepUpService/RevokeElevations", sign_out)
    assert verdict(grpcurl, bob, OSQUERY) == ("STEP_UP_REQUIRED", "NOT_ELEVATED")


def test_people_are_in_the_database_of_the_topology_and_elevations_in_its_redis(shared_server, bob):
    counted = "SELECT count(*) FROM authenticators WHERE tenant_id = :tenant"
    site = shared_server.site
    assert execute(site.database_url, counted, tenant=bob["tenant_id"]) == [(1,)]
    with site.redises(shared_server) as masters:
        assert sum(client.dbsize() for client in masters) > 0


@pytest.mark.topologies(EMBEDDED, reason="nothing is embedded")
def test_what_is_embedded_is_in_the_data_directory(shared_server):
    assert shared_server.embedded_store
    assert (shared_server.data_dir / "stepup.db").exists()


@pytest.mark.topologies(*NOT_EMBEDDED, reason="the stores are embedded")
def test_nothing_but_keys_and_logs_is_in_the_data_directory(shared_server):
    assert shared_server.embedded_store is None
    assert not (shared_server.data_dir / "stepup.db").exists()


def test_who_is_behind_envoy_is_not_called_directly(shared_server):
    is_direct = shared_server.address == shared_server.own_address
    assert is_direct == (TOPOLOGY != ENVOY)
    assert GrpCurl(shared_server).call("PolicyService/ListOperations")
