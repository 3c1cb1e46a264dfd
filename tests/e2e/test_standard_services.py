"""Health and reflection, as any tool uses them."""

import json
import os
import signal
import subprocess

import pytest
from stepup_tests.e2e.clients import BufCurlByReflection
from stepup_tests.e2e.people import OSQUERY, person, verdict
from stepup_tests.e2e.processes import PROGRAMS, eventually
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = pytest.mark.e2e

SERVICES = [
    "stepup.v1.AuditService",
    "stepup.v1.EnrollmentService",
    "stepup.v1.PolicyService",
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


@pytest.mark.parametrize("service", ["", *SERVICES, "sql", "redis"])
def test_every_service_is_healthy(shared_server, service):
    assert health(shared_server, service) == UP


def test_s17_health_follows_the_database_and_the_process_lives_on(server):
    with server.site.without_database():
        for service in ("", "stepup.v1.AuditService", "sql"):
            eventually(lambda name=service: health(server, name) == DOWN, f"{service!r} cannot")
        assert health(server, "redis") == UP
        assert server.is_running
    for service in ("", "stepup.v1.AuditService", "sql"):
        eventually(lambda name=service: health(server, name) == UP, f"{service!r} can again")


@pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject")
def test_s17_only_its_own_health_follows_the_store_of_elevations(server):
    """Other decisions go on without it."""
    lock = server.data_dir / "valkey" / "lock"
    lock.unlink()
    lock.mkdir()
    os.kill(server.embedded_store, signal.SIGKILL)
    eventually(lambda: health(server, "redis") == DOWN, "the server has noticed")
    assert [health(server, service) for service in ("", *SERVICES, "sql")] == [UP] * 6
    lock.rmdir()
    eventually(lambda: health(server, "redis") == UP, "it is back")


@pytest.mark.topologies(EMBEDDED, reason="the embedded store is its subject")
def test_s17_a_store_of_elevations_that_hangs_is_down(server):
    os.kill(server.embedded_store, signal.SIGSTOP)
    try:
        eventually(lambda: health(server, "redis") == DOWN, "the server has noticed")
        assert health(server) == UP
    finally:
        os.kill(server.embedded_store, signal.SIGCONT)
    eventually(lambda: health(server, "redis") == UP, "it answers again")


def test_reflection_lists_every_service(shared_server):
    assert grpcurl(shared_server.address, "list").split() == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        *SERVICES,
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_reflection_describes_every_service(shared_server, service):
    assert f"service {service.rpartition('.')[2]} {{" in grpcurl(
        shared_server.address, "describe", service
    )


def test_buf_learns_the_schema_from_reflection(shared_server, tenant):
    client = BufCurlByReflection(shared_server)
    assert verdict(client, person(tenant, "bob"), OSQUERY) == ("ALLOWED", "MFA_NOT_ENABLED")
