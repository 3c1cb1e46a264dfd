"""Health and reflection, as any tool uses them."""

import json
import os
import signal
import subprocess

import pytest
from e2e.clients import BufCurlByReflection
from e2e.people import OSQUERY, person, verdict
from e2e.processes import PROGRAMS, eventually

pytestmark = pytest.mark.e2e

SERVICES = [
    "stepup.v1.AuditService",
    "stepup.v1.EnrollmentService",
    "stepup.v1.PolicyService",
    "stepup.v1.StepUpService",
]


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


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_every_service_is_healthy(shared_server, service):
    assert health(shared_server, service) == {"status": "SERVING"}


def test_s17_health_follows_the_database_and_the_process_lives_on(server):
    database = server.data_dir / "stepup.db"
    database.rename(server.data_dir / "away.db")
    eventually(lambda: health(server) == {"status": "NOT_SERVING"}, "it says that it cannot decide")
    assert server.is_running
    (server.data_dir / "away.db").rename(database)
    eventually(lambda: health(server) == {"status": "SERVING"}, "it says that it can again")


def test_s17_health_does_not_follow_the_store_of_elevations(server):
    """Other decisions go on without it."""
    lock = server.data_dir / "valkey" / "lock"
    lock.unlink()
    lock.mkdir()
    os.kill(server.embedded_store, signal.SIGKILL)
    said = '"embedded_store_is_down"'
    eventually(lambda: said in server.stderr.read_text(), "the server has noticed")
    assert health(server) == {"status": "SERVING"}


def test_reflection_lists_every_service(shared_server):
    assert grpcurl(shared_server.address, "list").split() == [
        "grpc.health.v1.Health",
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
