"""Health and reflection, as any tool uses them."""

import json
import subprocess

import pytest
from e2e.clients import BufCurlByReflection
from e2e.people import OSQUERY, person, verdict
from e2e.processes import PROGRAMS

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


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_every_service_is_healthy(shared_server, service):
    request = json.dumps({"service": service})
    answer = grpcurl("-d", request, shared_server.address, "grpc.health.v1.Health/Check")
    assert json.loads(answer) == {"status": "SERVING"}


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
