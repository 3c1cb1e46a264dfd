"""S15: a client certificate with one SPIFFE id, or nothing."""

import asyncio
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from stepup_tests.certificates import DAY, authority
from stepup_tests.identity.door import doorkeeper, refusal, who

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.engine import Invocation
from stepup.rpc.identity.certificate_files import CertificateFiles
from stepup.rpc.identity.mtls import CertificateIdentification
from stepup.rpc.identity.server_credentials import ServerCertificate

SOAR = "spiffe://acme/ns/prod/sa/soar"
URI = x509.UniformResourceIdentifier


class OverTls(Invocation):
    """A call on a connection of which gRPC knows these properties."""

    def __init__(self, properties):
        super().__init__("peer")
        self.auth_context = lambda: properties


@pytest.fixture
async def door(make_engine, files, clock):
    """A server that demands client certificates."""
    credentials = ServerCertificate(files, clock).credentials()
    async with doorkeeper(make_engine, CertificateIdentification(clock), credentials) as door:
        yield door


async def test_the_identity_is_the_spiffe_id_of_the_certificate(door, servers_ca, clients_ca):
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert await who(channel) == SOAR


@pytest.mark.parametrize(
    "client",
    [
        None,
        authority("foreign").client(SOAR),
        authority("clients").client(SOAR, lifetime=-DAY),
        authority("clients").issue(URI(SOAR), usage=ExtendedKeyUsageOID.SERVER_AUTH),
    ],
    ids=["no certificate", "foreign authority", "expired", "a server's certificate"],
)
async def test_no_call_comes_through_the_handshake(door, servers_ca, client):
    async with door.channel(servers_ca.chain, client) as channel:
        code, _ = await refusal(channel)
    assert (code, door.admitted) == (grpc.StatusCode.UNAVAILABLE, 0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the client certificate has no URI SAN"),
        ([x509.DNSName("soar.example")], "the client certificate has no URI SAN"),
        ([x509.DNSName(SOAR)], "the client certificate has no URI SAN"),
        ([x509.RFC822Name("soar@acme.example")], "the client certificate has no URI SAN"),
        (
            [URI(SOAR), URI("spiffe://acme/ns/prod/sa/edr")],
            "the client certificate has more than one URI SAN",
        ),
        ([URI(SOAR), URI(SOAR)], "the client certificate has more than one URI SAN"),
        (
            [URI("https://acme.example/soar"), URI(SOAR)],
            "the client certificate has more than one URI SAN",
        ),
    ],
    ids=["none", "a DNS name", "a DNS name like one", "mail", "two", "one twice", "another"],
)
async def test_there_must_be_exactly_one_uri_san(door, servers_ca, clients_ca, names, message):
    async with door.channel(servers_ca.chain, clients_ca.issue(*names)) as channel:
        assert await refusal(channel) == (grpc.StatusCode.UNAUTHENTICATED, message)
    assert door.admitted == 0


@pytest.mark.parametrize(
    "uri",
    [
        "https://acme.example/soar",
        "jwt:https://issuer.example#soar",
        "spiffe://acme",
        "spiffe://acme/",
        "spiffe:///ns/prod",
        "spiffe://ACME/ns/prod",
        "SPIFFE://acme/ns/prod",
        "spiffe://acme:8443/ns/prod",
        "spiffe://user@acme/ns/prod",
        "spiffe://acme/ns//soar",
        "spiffe://acme/ns/soar/",
        "spiffe://acme/ns/../soar",
        "spiffe://acme/.",
        "spiffe://acme/ns/soar?x=1",
        "spiffe://acme/ns/soar#x",
        "spiffe://acme/ns/so%61r",
        "spiffe://acme/ns/soar\n",
        f"{SOAR}\0",
        f"{SOAR}\0/ns/dev/sa/other",
        f"\0{SOAR}",
        f"{SOAR}\x7f",
        "spiffe://acme/" + "x" * 2048,
        "",
    ],
)
async def test_s29_a_uri_that_is_no_spiffe_id_of_a_workload_is_refused(clock, clients_ca, uri):
    certificate = clients_ca.client(uri).chain
    context = {"x509_pem_cert": [certificate], "peer_uri": [SOAR.encode()]}
    with pytest.raises(CallerUnauthenticatedError, match="not the SPIFFE id of a workload"):
        await CertificateIdentification(clock).identify(OverTls(context))


@pytest.mark.parametrize("tail", ["\0/ns/dev/sa/other", "\0", "\n", "\x1b[2J"])
async def test_s29_the_uri_san_counts_as_a_whole(door, servers_ca, clients_ca, tail):
    """A C string ends at a NUL, a line at a line feed; what is before is another's identity."""
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR + tail)) as channel:
        assert await refusal(channel) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "the URI SAN of the client certificate is not the SPIFFE id of a workload",
        )
    assert door.admitted == 0


async def test_s29_a_name_that_is_not_ascii_identifies_nobody(door, servers_ca, clients_ca):
    """RFC 5280 §4.2.1.6 demands ASCII; the parser refuses such a certificate, and gRPC does not."""
    uri = f"{SOAR}\xe9".encode("latin-1")
    octets = b"\x30" + bytes([len(uri) + 2]) + b"\x86" + bytes([len(uri)]) + uri
    client = clients_ca.issue(
        san=x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, octets)
    )
    async with door.channel(servers_ca.chain, client) as channel:
        assert await refusal(channel) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "the client certificate cannot be read",
        )


async def test_s29_names_of_a_kind_that_the_parser_does_not_know_identify_nobody(
    door, servers_ca, clients_ca
):
    """cryptography has an error of its own for them, which is no ValueError."""
    uri = SOAR.encode()
    names = b"\xa5\x02\x05\x00" + b"\x86" + bytes([len(uri)]) + uri  # ediPartyName, URI
    octets = b"\x30" + bytes([len(names)]) + names
    client = clients_ca.issue(
        san=x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, octets)
    )
    async with door.channel(servers_ca.chain, client) as channel:
        code, _ = await refusal(channel)
    assert code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
    assert door.admitted == 0


async def test_a_server_that_asks_for_no_certificate_identifies_nobody_by_one(
    make_engine, files, clock, servers_ca, clients_ca
):
    asks_nobody = CertificateFiles(files.chain, files.key)
    credentials = ServerCertificate(asks_nobody, clock).credentials()
    async with (
        doorkeeper(make_engine, CertificateIdentification(clock), credentials) as door,
        door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel,
    ):
        code, message = await refusal(channel)
    assert (code, message) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "a client certificate is required",
    )


async def test_without_tls_there_is_no_certificate(clock):
    with pytest.raises(CallerUnauthenticatedError, match="a client certificate is required"):
        await CertificateIdentification(clock).identify(Invocation("peer"))


async def test_metadata_are_no_certificate(clock):
    forged = (("x509_pem_cert", "..."), ("peer_uri", SOAR), ("peer_spiffe_id", SOAR))
    with pytest.raises(CallerUnauthenticatedError, match="a client certificate is required"):
        await CertificateIdentification(clock).identify(Invocation("peer", forged))


async def test_s15_a_certificate_ends_however_long_its_connection_or_session_lasts(
    door, clock, servers_ca, clients_ca
):
    """Sessions are resumed for days, and gRPC does not verify the certificate for that."""
    client = clients_ca.client(SOAR, lifetime=timedelta(minutes=10))
    counts_until = client.certificate.not_valid_after_utc + timedelta(minutes=66)
    async with door.channel(servers_ca.chain, client) as channel:
        clock.set(counts_until - timedelta(microseconds=1))
        assert await who(channel) == SOAR
        clock.set(counts_until)
        assert await refusal(channel) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "the client certificate has expired",
        )


async def test_s15_a_certificate_that_cannot_be_read_identifies_nobody(clock):
    context = {"x509_pem_cert": [b"..."], "peer_uri": [SOAR.encode()]}
    with pytest.raises(CallerUnauthenticatedError, match="the client certificate cannot be read"):
        await CertificateIdentification(clock).identify(OverTls(context))


async def run(program, *arguments):
    process = await asyncio.create_subprocess_exec(
        program,
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode(errors="replace")


async def grpcurl(door, tmp_path, servers_ca, *options):
    (tmp_path / "ca.crt").write_bytes(servers_ca.chain)
    target = f"127.0.0.1:{door.port}"
    check = "grpc.health.v1.Health/Check"
    program = Path(sys.executable).with_name("grpcurl")
    return await run(program, "-cacert", tmp_path / "ca.crt", *options, target, check)


async def test_grpcurl_with_the_right_certificate_is_served(door, tmp_path, servers_ca, clients_ca):
    chain, key = clients_ca.client(SOAR).write(tmp_path, "client")
    status, output = await grpcurl(door, tmp_path, servers_ca, "-cert", chain, "-key", key)
    assert (status, door.admitted) == (0, 1), output
    assert "SERVING" in output


async def test_grpcurl_without_a_certificate_gets_nothing(door, tmp_path, servers_ca):
    status, _ = await grpcurl(door, tmp_path, servers_ca, "-max-time", 2)
    assert (status != 0, door.admitted) == (True, 0)


async def test_grpcurl_with_two_uri_sans_gets_nothing(door, tmp_path, servers_ca, clients_ca):
    chain, key = clients_ca.client(SOAR, f"{SOAR}2").write(tmp_path, "client")
    status, output = await grpcurl(door, tmp_path, servers_ca, "-cert", chain, "-key", key)
    assert (status != 0, door.admitted) == (True, 0)
    assert "the client certificate has more than one URI SAN" in output


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("version", "accepted"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)]
)
async def test_openssl_is_served_over_tls_1_2_and_later_only(
    door, tmp_path, servers_ca, version, accepted
):
    chain, key = authority("clients").client(SOAR).write(tmp_path, "client")
    (tmp_path / "ca.crt").write_bytes(servers_ca.chain)
    arguments = ("-connect", f"127.0.0.1:{door.port}", "-CAfile", tmp_path / "ca.crt")
    arguments += ("-cert", chain, "-key", key, "-alpn", "h2", f"-{version}")
    # Its own floor is 1.2; only below it can the server's be seen.
    arguments += ("-cipher", "ALL:@SECLEVEL=0")
    _, output = await run("openssl", "s_client", *arguments)
    assert ("ALPN protocol: h2" in output) is accepted, output
