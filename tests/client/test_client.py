"""What callers import: a channel that nobody else reads, or none (S15)."""

import asyncio
from datetime import UTC, datetime

import grpc
import pytest
from stepup_tests.certificates import authority
from stepup_tests.clock import ManualClock
from stepup_tests.engines import engine_under_test
from stepup_tests.identity.door import doorkeeper

from stepup.client import connect, metadata, reason
from stepup.domain.errors import ElevationRequiredError, MfaEnforcedError
from stepup.rpc.identity.certificate_files import CertificateFiles
from stepup.rpc.identity.mtls import CertificateIdentification
from stepup.rpc.identity.server_credentials import ServerCertificate
from stepup.rpc.wire.errors import to_status

SOAR = "spiffe://acme/ns/prod/sa/soar"


@pytest.mark.parametrize("target", ["127.0.0.1:50051", "localhost:50051", "[::1]:50051"])
def test_a_server_on_this_machine_needs_no_credentials(target):
    with connect(target) as client:
        assert client.step_up


@pytest.mark.parametrize(
    "target",
    ["stepup.prod:50051", "192.0.2.1:50051", "[2001:db8::1]:50051", "dns:///stepup:50051", "x", ""],
)
def test_s15_nothing_is_sent_in_plaintext_to_another_machine(target):
    with pytest.raises(ValueError, match="needs credentials"):
        connect(target)


async def test_s15_with_credentials_the_caller_is_who_its_certificate_says(tmp_path):
    chain, key = authority("servers").server().write(tmp_path, "server")
    client_ca = tmp_path / "clients.crt"
    client_ca.write_bytes(authority("clients").chain)
    clock = ManualClock(datetime.now(UTC))
    certificate = ServerCertificate(CertificateFiles(chain, key, client_ca), clock)
    ours = authority("clients").client(SOAR)
    credentials = grpc.ssl_channel_credentials(authority("servers").chain, ours.key, ours.chain)

    def ask(target):
        with connect(target, credentials) as client:
            return client.channel.unary_unary("/any/Method")(b"", timeout=10)

    async with doorkeeper(
        engine_under_test(), CertificateIdentification(clock), certificate.credentials()
    ) as door:
        assert await asyncio.to_thread(ask, f"localhost:{door.port}") == SOAR.encode()


class Ended(grpc.RpcError):
    """What a stub raises when a call has ended with a status, or with one that is not ours."""

    def __init__(self, status=None):
        self._status = status

    def code(self):
        return self._status.code if self._status else grpc.StatusCode.UNAVAILABLE

    def details(self):
        return self._status.message if self._status else "connection refused"

    def trailing_metadata(self):
        return self._status.trailers if self._status else ()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            Ended(to_status(ElevationRequiredError("enrol first", is_enrolled=False))),
            ("ELEVATION_REQUIRED", {"next_step": "ENROLL"}),
        ),
        (Ended(to_status(MfaEnforcedError("it is on"))), ("MFA_ENFORCED_BY_POLICY", {})),
        (Ended(), ("", {})),
    ],
)
def test_an_error_has_a_reason_and_what_a_program_can_act_on(error, expected):
    assert (reason(error), metadata(error)) == expected
