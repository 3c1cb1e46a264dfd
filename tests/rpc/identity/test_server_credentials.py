"""S15: certificates change while the server serves, and nobody notices but new connections."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from stepup_tests.certificates import DAY, Authority, authority
from stepup_tests.identity.door import doorkeeper, refusal, who
from stepup_tests.metrics import metric
from structlog.testing import capture_logs

from stepup.rpc.identity.certificate_files import CertificateError, CertificateFiles
from stepup.rpc.identity.mtls import CertificateIdentification
from stepup.rpc.identity.server_credentials import CHECK_SECONDS, ServerCertificate
from stepup.system import pem

SOAR = "spiffe://acme/ns/prod/sa/soar"
FAILURES = "stepup_certificate_reload_failures_total"
NOT_AFTER = "stepup_certificate_not_after_seconds"


@pytest.fixture
def certificate(files, clock):
    return ServerCertificate(files, clock)


@pytest.fixture
async def door(make_engine, certificate, clock):
    async with doorkeeper(
        make_engine, CertificateIdentification(clock), certificate.credentials()
    ) as door:
        yield door


def replace(path, content):
    """Put a file in another's place, at once."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.rename(path)


def replace_pair(files, credential):
    """Replace the server's certificate and its key."""
    replace(files.chain, credential.chain)
    replace(files.key, credential.key)


@pytest.fixture
def settle(certificate, clock):
    """Let one look see a change: the next, at a handshake for instance, takes it over."""

    def settle():
        clock.advance(seconds=CHECK_SECONDS)
        certificate.poll()
        clock.advance(seconds=CHECK_SECONDS)

    return settle


@pytest.fixture
def rotate(files, settle):
    """Replace the server's certificate, to be taken over with the next look."""

    def rotate(credential):
        replace_pair(files, credential)
        settle()

    return rotate


async def shown(door, servers_ca):
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=servers_ca.chain.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(serial, 16)


async def test_a_new_connection_is_shown_the_new_certificate(door, rotate, servers_ca):
    renewed = servers_ca.server()
    assert await shown(door, servers_ca) != renewed.certificate.serial_number
    rotate(renewed)
    assert await shown(door, servers_ca) == renewed.certificate.serial_number


async def test_a_rotation_under_traffic_fails_no_call(door, rotate, servers_ca, clients_ca):
    client, rotating, answers = clients_ca.client(SOAR), True, []

    async def call_on_one_connection():
        async with door.channel(servers_ca.chain, client) as channel:
            while rotating:
                answers.append(await who(channel))

    async def call_on_new_connections():
        while rotating:
            async with door.channel(servers_ca.chain, client) as channel:
                answers.append(await who(channel))

    async with asyncio.TaskGroup() as callers:
        for _ in range(2):
            callers.create_task(call_on_one_connection())
            callers.create_task(call_on_new_connections())
        for _ in range(5):
            renewed, before = servers_ca.server(), len(answers)
            rotate(renewed)
            assert await shown(door, servers_ca) == renewed.certificate.serial_number
            while len(answers) < before + 20:
                await shown(door, servers_ca)
        rotating = False
    assert set(answers) == {SOAR}


async def test_another_authority_of_clients_takes_over(door, files, settle, servers_ca, clients_ca):
    successor = Authority.create("clients of tomorrow")
    old, new = clients_ca.client(SOAR), successor.client(SOAR)

    async def are_admitted(*clients):
        for client in clients:
            async with door.channel(servers_ca.chain, client) as channel:
                assert await who(channel) == SOAR

    async def is_turned_away(client):
        async with door.channel(servers_ca.chain, client) as channel:
            assert (await refusal(channel))[0] is grpc.StatusCode.UNAVAILABLE

    def trust(bundle):
        replace(files.client_ca, bundle)
        settle()

    await are_admitted(old)
    await is_turned_away(new)
    trust(clients_ca.chain + successor.chain)
    await are_admitted(old, new)
    trust(successor.chain)
    await are_admitted(new)
    await is_turned_away(old)


async def test_s15_a_session_does_not_outlive_the_authority_of_its_client(
    door, files, settle, servers_ca, clients_ca
):
    """Whoever resumes one does not show a certificate again."""
    context = ssl.create_default_context(cadata=servers_ca.chain.decode())
    # The refusal comes with the handshake, then.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(*clients_ca.client(SOAR).write(files.chain.parent, "client"))
    context.set_alpn_protocols(["h2"])

    def connect(session=None):
        with (
            socket.create_connection(("localhost", door.port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
        ):
            return wrapped.session, wrapped.session_reused

    session, _ = await asyncio.to_thread(connect)
    assert (await asyncio.to_thread(connect, session))[1]
    replace(files.client_ca, authority("foreign").chain)
    settle()
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(connect, session)


async def test_an_open_connection_outlives_every_change(
    door, files, rotate, servers_ca, clients_ca
):
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert await who(channel) == SOAR
        replace(files.client_ca, authority("foreign").chain)
        rotate(servers_ca.server())
        async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as late:
            assert (await refusal(late))[0] is grpc.StatusCode.UNAVAILABLE
        assert await who(channel) == SOAR


async def test_a_broken_file_keeps_the_certificate_that_serves(
    door, files, clock, servers_ca, clients_ca
):
    serial = await shown(door, servers_ca)
    failures = metric(FAILURES)
    with capture_logs() as logs:
        replace(files.chain, b"-----BEGIN CERTIFICATE-----\nnonsense\n")
        for _ in range(3):
            clock.advance(seconds=CHECK_SECONDS)
            assert await shown(door, servers_ca) == serial
        async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
            assert await who(channel) == SOAR
    assert metric(FAILURES) == failures + 1
    assert [entry["event"] for entry in logs] == ["certificate_not_reloaded"]
    assert logs[0]["problem"] == f"tls.certificate: {files.chain}: holds no certificates in PEM"


def test_each_change_that_fails_is_reported_once(certificate, files, clock):
    failures = metric(FAILURES)
    for content in (b"one", b"another"):
        replace(files.key, content)
        for _ in range(3):
            clock.advance(seconds=CHECK_SECONDS)
            certificate.poll()
    assert metric(FAILURES) == failures + 2


def test_a_repaired_file_is_taken_over(certificate, files, settle, rotate, servers_ca):
    renewed, failures = servers_ca.server(lifetime=9 * DAY), metric(FAILURES)
    replace(files.chain, renewed.chain)
    settle()
    certificate.poll()  # the key is still that of the old one
    assert metric(FAILURES) == failures + 1
    rotate(renewed)
    certificate.poll()
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()
    assert metric(FAILURES) == failures + 1


def test_a_file_that_is_away_for_a_while_keeps_the_certificate(certificate, files, settle):
    failures, content = metric(FAILURES), files.key.read_bytes()
    files.key.unlink()
    settle()
    with capture_logs() as logs:
        certificate.poll()
    assert logs[0]["problem"] == f"tls.key: {files.key}: cannot be read: No such file or directory"
    files.key.write_bytes(content)
    settle()
    certificate.poll()
    assert metric(FAILURES) == failures + 1


def test_files_are_looked_at_once_a_second_at_the_most(certificate, rotate, clock, servers_ca):
    before = metric(NOT_AFTER)
    renewed = servers_ca.server(lifetime=7 * DAY)
    rotate(renewed)
    clock.advance(seconds=-0.5)
    certificate.poll()
    assert metric(NOT_AFTER) == before
    clock.advance(seconds=0.5)
    certificate.poll()
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()


def test_files_that_change_again_are_not_taken_over_in_between(
    certificate, files, clock, servers_ca
):
    """Whoever writes one after the other, or a bundle in parts, is not done at the first look."""
    failures, before = metric(FAILURES), metric(NOT_AFTER)
    renewed = servers_ca.server(lifetime=6 * DAY)
    for path, content in ((files.key, renewed.key), (files.chain, renewed.chain)):
        path.write_bytes(content)
        clock.advance(seconds=CHECK_SECONDS)
        certificate.poll()
        assert metric(NOT_AFTER) == before
    clock.advance(seconds=CHECK_SECONDS)
    certificate.poll()
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()
    assert metric(FAILURES) == failures


def test_a_certificate_of_tomorrow_is_taken_over_tomorrow(certificate, rotate, clock, servers_ca):
    failures, before = metric(FAILURES), metric(NOT_AFTER)
    tomorrow = servers_ca.server(begins=DAY, lifetime=8 * DAY)
    rotate(tomorrow)
    certificate.poll()
    assert (metric(FAILURES), metric(NOT_AFTER)) == (failures + 1, before)
    clock.advance(minutes=25 * 60)
    certificate.poll()
    assert metric(NOT_AFTER) == tomorrow.certificate.not_valid_after_utc.timestamp()
    assert metric(FAILURES) == failures + 1


def test_files_that_are_swapped_together_are_read_together(tmp_path, clock, servers_ca):
    """As Kubernetes swaps them: a link to a directory is replaced, at any moment."""
    link, draft = tmp_path / "..data", tmp_path / "draft"
    pairs = [servers_ca.server(lifetime=(number + 3) * DAY) for number in range(3)]

    def swap(number):
        directory = tmp_path / str(number)
        directory.mkdir()
        pairs[number].write(directory, "tls")
        draft.symlink_to(directory)
        draft.rename(link)

    to_come = [2]

    class SwappedWhileRead(type(tmp_path)):
        def open(self, *arguments, **options):
            file = super().open(*arguments, **options)
            if to_come and link.resolve().name == "1":
                swap(to_come.pop())
            return file

    swap(0)
    files = CertificateFiles(SwappedWhileRead(link / "tls.crt"), link / "tls.key")
    certificate = ServerCertificate(files, clock)
    failures = metric(FAILURES)
    swap(1)
    for _ in range(2):
        clock.advance(seconds=CHECK_SECONDS)
        certificate.poll()
    assert not to_come
    assert metric(NOT_AFTER) == pairs[2].certificate.not_valid_after_utc.timestamp()
    assert metric(FAILURES) == failures


UNUSABLE = [
    ("chain", None, "cannot be read: No such file or directory"),
    ("key", None, "cannot be read: No such file or directory"),
    ("client_ca", None, "cannot be read: No such file or directory"),
    ("chain", b"", "holds no certificates in PEM"),
    ("chain", b"\xff\x00", "holds no certificates in PEM"),
    ("client_ca", b"", "holds no certificates in PEM"),
    (
        "client_ca",
        authority("clients").chain + authority("foreign").chain[:-40],
        "holds a certificate that is cut off",
    ),
    (
        "client_ca",
        authority("clients").chain
        + authority("foreign").chain.replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"),
        "holds a certificate that is cut off or of another form",
    ),
    (
        "client_ca",
        authority("clients").chain + authority("foreign").chain.replace(b"-----BEGIN", b"--BEGIN"),
        "holds a certificate that is cut off or of another form",
    ),
    ("client_ca", authority("clients").chain.decode().encode("utf-16"), "holds no certificates"),
    ("key", authority("servers").server().key * 2, "holds more than one private key"),
    ("key", authority("servers").server().key.decode().encode("utf-16"), "is not a private key"),
    (
        "client_ca",
        Authority.create("clients of yesterday", lifetime=-DAY).chain,
        "every authority in it has expired",
    ),
    ("client_ca", b"x" * (1024 * 1024 + 1), "is too large"),
    ("key", b"", "is not a private key in PEM"),
    ("key", authority("servers").server().encrypted_key, "is encrypted"),
    ("key", authority("servers").server().key, "is not the key of the certificate in "),
    ("chain", authority("servers").server().chain, "is not the key of the certificate in "),
]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    UNUSABLE,
    # Not what is in them: it differs from one worker of pytest-xdist to the other.
    ids=[f"{number}: {file} {problem}" for number, (file, _, problem) in enumerate(UNUSABLE)],
)
def test_a_file_that_is_no_good_is_named(files, clock, file, content, problem):
    path = getattr(files, file)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(CertificateError) as error:
        ServerCertificate(files, clock)
    named = "key" if "is not the key" in problem else file
    setting = {"chain": "certificate"}.get(named, named)
    assert str(error.value).startswith(f"tls.{setting}: {getattr(files, named)}: {problem}")


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ({"lifetime": -DAY}, r"server.crt: has expired"),
        ({"begins": DAY, "lifetime": 2 * DAY}, r"server.crt: is not in force yet"),
        ({"curve": ec.SECP256K1()}, r"server.key: must be an RSA, P-256, .* key"),
    ],
)
def test_a_pair_that_no_client_would_take_is_named(files, clock, servers_ca, made, problem):
    replace_pair(files, servers_ca.server(**made))
    with pytest.raises(CertificateError, match=problem):
        ServerCertificate(files, clock)


BOM = b"\xef\xbb\xbf"
FORMS = {
    "a byte-order mark": lambda pem: BOM + pem,
    "indented": lambda pem: b"".join(b"    " + line for line in pem.splitlines(keepends=True)),
    "text before": lambda pem: b"subject=CN = acme " + pem,
    "text after": lambda pem: pem + b"-----END OF FILE\n\0\xff",
    "carriage returns": lambda pem: pem.replace(b"\n", b"\r\n"),
    "one line break less": lambda pem: pem.rstrip(b"\n"),
    "another block": lambda pem: b"-----BEGIN NOTE-----\nAAAA\n-----END NOTE-----\n" + pem,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_s15_a_withdrawn_authority_is_not_let_in_whatever_form_the_new_file_has(  # noqa: PLR0917
    door, files, settle, servers_ca, clients_ca, form
):
    """gRPC does not see a certificate behind a byte-order mark, and goes on with the old ones."""
    successors = [Authority.create(f"clients of tomorrow {number}") for number in range(2)]
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert await who(channel) == SOAR
    replace(files.client_ca, b"".join(form(each.chain) + b"\n" for each in successors))
    settle()
    with capture_logs() as logs:
        for successor in successors:
            async with door.channel(servers_ca.chain, successor.client(SOAR)) as channel:
                assert await who(channel) == SOAR
    assert [entry["event"] for entry in logs] == ["certificate_reloaded"]
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert (await refusal(channel))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_s15_a_renewed_certificate_is_shown_whatever_form_the_files_have(
    door, files, settle, servers_ca, form
):
    renewed = servers_ca.server()
    replace(files.chain, form(renewed.chain))
    replace(files.key, form(renewed.key))
    settle()
    assert await shown(door, servers_ca) == renewed.certificate.serial_number
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()


async def test_s15_a_server_starts_with_every_authority_of_a_file_with_a_byte_order_mark(
    make_engine, files, clock, servers_ca, clients_ca
):
    """The first one was lost without a word."""
    second = Authority.create("clients of tomorrow")
    for path in (files.chain, files.key):
        path.write_bytes(BOM + path.read_bytes())
    files.client_ca.write_bytes(BOM + clients_ca.chain + second.chain)
    credentials = ServerCertificate(files, clock).credentials()
    async with doorkeeper(make_engine, CertificateIdentification(clock), credentials) as door:
        for each in (clients_ca, second):
            async with door.channel(servers_ca.chain, each.client(SOAR)) as channel:
                assert await who(channel) == SOAR


@pytest.mark.parametrize("kind", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
async def test_each_form_of_a_private_key_is_served(make_engine, files, clock, servers_ca, kind):
    """As `openssl ecparam -genkey` writes it: with the parameters of the curve before it."""
    renewed = servers_ca.server()
    key = renewed.private_key.private_bytes(Encoding.PEM, kind, NoEncryption())
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    files.chain.write_bytes(renewed.chain)
    files.key.write_bytes(parameters + key)
    credentials = ServerCertificate(files, clock).credentials()
    async with doorkeeper(make_engine, CertificateIdentification(clock), credentials) as door:
        assert await shown(door, servers_ca) == renewed.certificate.serial_number


def test_s15_what_grpc_itself_does_not_take_is_not_said_to_be_served(files, clock, monkeypatch):
    """Its parser may refuse what ours accepts; then the error says which certificate it is."""
    monkeypatch.setattr(pem, "to_pem", lambda certificates: b"".join(map(spoilt, certificates)))
    refused = authority("foreign").certificate

    def spoilt(certificate):
        return b"?" if certificate == refused else certificate.public_bytes(Encoding.PEM)

    files.client_ca.write_bytes(files.client_ca.read_bytes() + authority("foreign").chain)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(CertificateError) as error:
        ServerCertificate(files, clock)
    expected = f"tls.client_ca: {files.client_ca}: gRPC does not take certificate 2 of it"
    assert str(error.value) == expected
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_one_authority_in_force_beside_an_expired_one_will_do(files, clock, clients_ca):
    expired = Authority.create("clients of yesterday", lifetime=-DAY)
    files.client_ca.write_bytes(expired.chain + clients_ca.chain)
    ServerCertificate(files, clock)


def test_the_private_key_is_in_no_repr_log_or_error(files, clock, servers_ca):
    secret = servers_ca.server().key
    files.key.write_bytes(secret)
    with pytest.raises(CertificateError) as mismatch:
        ServerCertificate(files, clock)
    replace_pair(files, servers_ca.server())
    with capture_logs() as logs:
        certificate = ServerCertificate(files, clock)
        replace(files.key, secret)
        clock.advance(seconds=CHECK_SECONDS)
        certificate.poll()
    written = f"{mismatch.value!r} {mismatch.value.__cause__!r} {certificate!r} {logs}"
    assert not [line for line in secret.decode().splitlines()[1:-1] if line in written]
    assert os.fspath(files.key) in written
