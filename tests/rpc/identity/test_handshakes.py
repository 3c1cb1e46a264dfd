"""The log of grpcio's core, as version 1.85 writes it, and what the server makes of it."""

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from stepup.rpc.identity import handshakes
from stepup.rpc.identity.handshakes import LOG_SECONDS, MAX_LINES, HandshakeFailures

HEAD = "I1129 01:28:31.816939   13549 handshaker.cc:155] CallNextHandshakerLocked: error="
TRACE = "\n=== Source Location Trace: ===\nsrc/core/util/status_helper.cc:68\n"
NEXT = "I1129 01:28:31.816940   13549 channel_trace.h:396] handshake manager 0x7ff0: Failed\n"
SSL = "UNKNOWN: Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL"
VERIFY = f"{SSL} routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: "


def record(error, peer="ipv4:192.0.2.7:46806", more=""):
    arguments = f"{more}grpc.internal.endpoint_peer_address={peer}, grpc.resource_quota=0x55"
    return (
        f"{HEAD}{error}{TRACE} shutdown=false index=2, args={{endpoint=0x7f, args={{{arguments}}},"
        f" read_buffer.Length()=0, exit_early=0}}\n{NEXT}"
    ).encode()


EXPIRED = record(f"{VERIFY}certificate has expired: OK")


@pytest.fixture
def failures(clock):
    return HandshakeFailures(clock)


def counted(reason):
    labels = {"reason": reason}
    return REGISTRY.get_sample_value("stepup_handshake_failures_total", labels) or 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (f"{SSL} routines::PEER_DID_NOT_RETURN_A_CERTIFICATE: x", "certificate_missing"),
        (f"{VERIFY}certificate has expired: OK", "certificate_expired"),
        (f"{VERIFY}certificate is not yet valid: OK", "certificate_not_yet_valid"),
        (f"{VERIFY}unable to get local issuer certificate: OK", "certificate_foreign"),
        (f"{VERIFY}self signed certificate: OK", "certificate_foreign"),
        (f"{VERIFY}unsupported certificate purpose: OK", "certificate_not_accepted"),
        (f"{SSL} routines:OPENSSL_internal:HTTP_REQUEST: x", "not_tls"),
        (f"{SSL} routines:OPENSSL_internal:WRONG_VERSION_NUMBER: x", "not_tls"),
        (f"{SSL} routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL: x", "tls_version"),
        ("UNKNOWN: Cannot check peer: missing selected ALPN property.", "not_http2"),
        (f"{SSL} routines:OPENSSL_internal:WRONG_CURVE: x", "other"),
    ],
)
def test_s15_a_failure_is_counted_and_logged_with_address_and_reason(failures, error, reason):
    before = counted(reason)
    with capture_logs() as logs:
        failures.read(record(error))
    assert counted(reason) == before + 1
    [line] = logs
    assert (line["event"], line["peer"], line["reason"]) == (
        "handshake_failed",
        "ipv4:192.0.2.7:46806",
        reason,
    )
    assert line["explanation"]


def test_a_record_may_arrive_in_pieces(failures):
    before = counted("certificate_expired")
    for octet in EXPIRED + EXPIRED:
        failures.read(bytes([octet]))
    assert counted("certificate_expired") == before + 2


def test_the_end_of_one_record_is_not_the_end_of_another(failures):
    """The pipe was full, and the core's text has a gap."""
    cut = EXPIRED[: EXPIRED.index(b"shutdown")]
    before = counted("certificate_expired")
    with capture_logs() as logs:
        failures.read(cut + record("OK", peer="ipv4:198.51.100.1:1"))
    assert (counted("certificate_expired"), logs) == (before, [])


@pytest.mark.parametrize(
    "octets",
    [
        record("OK"),
        record(f"{VERIFY}certificate has expired", more="grpc.client_channel_factory=0x7f, "),
        b"free(): invalid pointer\n" * 5000,
        bytes(range(256)) * 100,
    ],
    ids=["success", "a client of the server's own", "other text", "no text"],
)
def test_other_text_counts_nothing(failures, octets):
    before = [counted(reason) for reason in handshakes.Cause]
    with capture_logs() as logs:
        failures.read(octets + NEXT.encode())
    assert [counted(reason) for reason in handshakes.Cause] == before
    assert logs == []


def test_a_port_that_is_only_tried_is_not_logged(failures):
    before = counted("connection_closed")
    with capture_logs() as logs:
        failures.read(record("UNAVAILABLE: Handshake read failed (Socket closed)"))
    assert (counted("connection_closed"), logs) == (before + 1, [])


def test_s18_a_flood_of_failures_is_a_few_lines(failures, clock):
    before = counted("certificate_expired")
    with capture_logs() as logs:
        for port in range(1000, 1100):
            failures.read(record(f"{VERIFY}certificate has expired", f"ipv4:192.0.2.7:{port}"))
        assert len(logs) == 1
        for host in range(2 * MAX_LINES):
            peer = f"ipv4:10.0.{host // 256}.{host % 256}:1"
            failures.read(record(f"{VERIFY}certificate has expired", peer))
        assert len(logs) == MAX_LINES
        clock.advance(seconds=LOG_SECONDS)
        failures.read(EXPIRED)
        assert len(logs) == MAX_LINES + 1
    assert counted("certificate_expired") == before + 100 + 2 * MAX_LINES + 1


def test_an_address_of_ipv6_is_logged(failures):
    with capture_logs() as logs:
        failures.read(record(f"{VERIFY}certificate has expired", "ipv6:%5B2001:db8::1%5D:443"))
    assert logs[0]["peer"] == "ipv6:%5B2001:db8::1%5D:443"
