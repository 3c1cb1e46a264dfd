"""Health, probes and reflection, as any tool or orchestrator uses them."""

import json
import os
import signal
import subprocess

import pytest
from stepup_tests.e2e.clients import BufCurlByReflection
from stepup_tests.e2e.guarded import configured
from stepup_tests.e2e.people import OSQUERY, person, verdict
from stepup_tests.e2e.probes import status
from stepup_tests.e2e.processes import PROGRAMS, eventually
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT, EMBEDDED

pytestmark = pytest.mark.e2e

SERVICES = [
    "stepup.v1.AuditService",
    "stepup.v1.ChallengeService",
    "stepup.v1.EnrollmentService",
    "stepup.v1.PeopleService",
    "stepup.v1.PolicyService",
    "stepup.v1.PortalService",
    "stepup.v1.StepUpService",
]
UP, DOWN = {"status": "SERVING"}, {"status": "NOT_SERVING"}


def grpcurl(*arguments):
    return subprocess.run(
        [PROGRAMS / "grpcurl", "-plaintext", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def health(server, service=""):
    request = json.dumps({"service": service})
    return json.loads(grpcurl("-d", request, server.address, "grpc.health.v1.Health/Check"))


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A server with probes; tests take its stores away, and give them back."""
    directory = tmp_path_factory.mktemp("probed")
    arguments = configured(directory, '[probes]\nlisten = "127.0.0.1:0"')
    with serving(directory, *arguments) as server:
        yield server


def has_health(server, wanted, *services):
    """Wait until services have a health."""
    for service in services:
        eventually(lambda name=service: health(server, name) == wanted, f"{service!r}: {wanted}")


@pytest.mark.topologies(*DIRECT, reason="Envoy asks for the health of no server that is not well")
def test_s17_health_follows_the_database_and_the_process_lives_on(probed):
    concerned = ("", *SERVICES, "sql")
    assert [health(probed, service) for service in (*concerned, "redis")] == [UP] * (
        len(concerned) + 1
    )
    assert status(probed, "/ready") == 200
    with probed.site.without_database():
        has_health(probed, DOWN, *concerned)
        assert health(probed, "redis") == UP
        assert status(probed, "/ready") == 503
        assert status(probed, "/ready?service=sql_writes") == 503
        assert status(probed, "/ready?service=redis_writes") == 200
        assert status(probed, "/ready?service=rabbits") == 404
        assert status(probed, "/live", "HEAD") == 200
    has_health(probed, UP, *concerned)
    eventually(lambda: status(probed, "/ready") == 200, "the server is ready again")


@pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject")
def test_s17_only_its_own_health_follows_the_store_of_elevations(probed):
    """Other decisions go on without it, whether it hangs or has ended."""
    # A portal session is in this store.
    others = ("", *(each for each in SERVICES if each != "stepup.v1.PortalService"), "sql")
    os.kill(probed.embedded_store, signal.SIGSTOP)
    try:
        has_health(probed, DOWN, "redis", "stepup.v1.PortalService")
        assert [health(probed, service) for service in others] == [UP] * len(others)
    finally:
        os.kill(probed.embedded_store, signal.SIGCONT)
    has_health(probed, UP, "redis")
    lock = probed.data_dir / "valkey" / "lock"
    lock.unlink()
    lock.mkdir()
    os.kill(probed.embedded_store, signal.SIGKILL)
    has_health(probed, DOWN, "redis")
    assert [health(probed, service) for service in others] == [UP] * len(others)
    lock.rmdir()
    has_health(probed, UP, "redis")


def test_reflection_lists_every_service(shared_server):
    assert grpcurl(shared_server.address, "list").split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        *SERVICES,
    ]
    described = grpcurl(shared_server.address, "describe", SERVICES[0])
    assert "service AuditService {" in described


def test_buf_learns_the_schema_from_reflection(shared_server, tenant):
    client = BufCurlByReflection(shared_server)
    assert verdict(client, person(tenant, "bob"), OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")
