"""S15: certificates change while the server serves, and nobody notices but new connections."""

import asyncio
import os
import ssl
from contextlib import AsyncExitStack
from datetime import UTC

import grpc
import pytest
from rpc.identity.door import doorkeeper, refusal, who
from structlog.testing import capture_logs
from support.certificates import DAY, Authority, authority
from support.metrics import metric

from stepup.rpc.identity.mtls import CertificateIdentification
from stepup.rpc.identity.server_credentials import (
    CHECK_SECONDS,
    CertificateError,
    CertificateFiles,
    ServerCertificate,
)

SOAR = "spiffe://acme/ns/prod/sa/soar"
FAILURES = "stepup_certificate_reload_failures_total"
NOT_AFTER = "stepup_certificate_not_after_seconds"


@pytest.fixture
def certificate(files, clock):
    return ServerCertificate.load(files, clock)


@pytest.fixture
async def door(certificate):
    async with doorkeeper(CertificateIdentification(), certificate.credentials()) as door:
        yield door


def replace(path, content):
    """Put a file in another's place, at once."""
    draft = path.with_suffix(".draft")
    draft.write_bytes(content)
    draft.rename(path)


def rotate(files, credential, clock):
    """Replace the server's certificate, and let the time pass after which it is noticed."""
    replace(files.chain, credential.chain)
    replace(files.key, credential.key)
    clock.advance(seconds=CHECK_SECONDS)


async def shown(door, servers_ca):
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=servers_ca.chain.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("localhost", door.port, ssl=context)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(serial, 16)


async def test_a_new_connection_is_shown_the_new_certificate(door, files, clock, servers_ca):
    renewed = servers_ca.server()
    assert await shown(door, servers_ca) != renewed.certificate.serial_number
    rotate(files, renewed, clock)
    assert await shown(door, servers_ca) == renewed.certificate.serial_number


async def test_a_rotation_under_traffic_fails_no_call(door, files, clock, servers_ca, clients_ca):
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
        for _ in range(10):
            renewed, before = servers_ca.server(), len(answers)
            rotate(files, renewed, clock)
            assert await shown(door, servers_ca) == renewed.certificate.serial_number
            while len(answers) < before + 20:
                await shown(door, servers_ca)
        rotating = False
    assert set(answers) == {SOAR}


async def test_another_authority_of_clients_takes_over(door, files, clock, servers_ca, clients_ca):
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
        clock.advance(seconds=CHECK_SECONDS)

    await are_admitted(old)
    await is_turned_away(new)
    trust(clients_ca.chain + successor.chain)
    await are_admitted(old, new)
    trust(successor.chain)
    await are_admitted(new)
    await is_turned_away(old)


async def test_an_open_connection_outlives_every_change(door, files, clock, servers_ca, clients_ca):
    async with door.channel(servers_ca.chain, clients_ca.client(SOAR)) as channel:
        assert await who(channel) == SOAR
        replace(files.client_ca, authority("foreign").chain)
        rotate(files, servers_ca.server(), clock)
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
    assert logs[0]["problem"] == f"{files.chain}: holds no certificates in PEM"


def test_each_change_that_fails_is_reported_once(certificate, files, clock):
    failures = metric(FAILURES)
    for content in (b"one", b"another"):
        replace(files.key, content)
        for _ in range(3):
            clock.advance(seconds=CHECK_SECONDS)
            certificate.poll()
    assert metric(FAILURES) == failures + 2


def test_a_repaired_file_is_taken_over(certificate, files, clock, servers_ca):
    renewed, failures = servers_ca.server(lifetime=9 * DAY), metric(FAILURES)
    replace(files.chain, renewed.chain)
    clock.advance(seconds=CHECK_SECONDS)
    certificate.poll()  # the key is still that of the old one
    assert metric(FAILURES) == failures + 1
    rotate(files, renewed, clock)
    certificate.poll()
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()
    assert metric(FAILURES) == failures + 1


def test_a_file_that_is_away_for_a_while_keeps_the_certificate(certificate, files, clock):
    failures, content = metric(FAILURES), files.key.read_bytes()
    files.key.unlink()
    clock.advance(seconds=CHECK_SECONDS)
    with capture_logs() as logs:
        certificate.poll()
    assert logs[0]["problem"] == f"{files.key}: cannot be read: No such file or directory"
    files.key.write_bytes(content)
    clock.advance(seconds=CHECK_SECONDS)
    certificate.poll()
    assert metric(FAILURES) == failures + 1


def test_files_are_looked_at_once_a_second_at_the_most(certificate, files, clock, servers_ca):
    certificate.poll()
    before = metric(NOT_AFTER)
    renewed = servers_ca.server(lifetime=7 * DAY)
    rotate(files, renewed, clock)
    clock.advance(seconds=-0.5)
    certificate.poll()
    assert metric(NOT_AFTER) == before
    clock.advance(seconds=0.5)
    certificate.poll()
    assert metric(NOT_AFTER) == renewed.certificate.not_valid_after_utc.timestamp()


def test_files_that_are_swapped_together_are_read_together(tmp_path, clock, servers_ca):
    """As Kubernetes swaps them: a link to a directory is replaced, at any moment."""
    pairs = [servers_ca.server() for _ in range(60)]
    link = tmp_path / "..data"

    def swap(number):
        directory = tmp_path / str(number)
        directory.mkdir()
        pairs[number].write(directory, "tls")
        draft = tmp_path / "draft"
        draft.symlink_to(directory)
        draft.rename(link)

    swap(0)
    failures = metric(FAILURES)
    files = CertificateFiles(link / "tls.crt", link / "tls.key")
    certificate = ServerCertificate.load(files, clock)

    async def swap_while_polling():
        swapping = asyncio.create_task(asyncio.to_thread(lambda: [swap(n) for n in range(1, 60)]))
        while not swapping.done():
            clock.advance(seconds=CHECK_SECONDS)
            certificate.poll()
            await asyncio.sleep(0)
        await swapping

    asyncio.run(swap_while_polling())
    assert metric(FAILURES) == failures


def test_the_expiry_of_the_certificate_is_a_metric(certificate, servers_ca, files, clock):
    renewed = servers_ca.server(lifetime=5 * DAY)
    rotate(files, renewed, clock)
    certificate.poll()
    expected = renewed.certificate.not_valid_after_utc.astimezone(UTC).timestamp()
    assert metric(NOT_AFTER) == expected


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
        Authority.create("clients of yesterday", lifetime=-DAY).chain,
        "every authority in it has expired",
    ),
    ("client_ca", b"x" * (1024 * 1024 + 1), "is too large"),
    ("key", b"", "is no private key in PEM"),
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
        ServerCertificate.load(files, clock)
    named = files.key if "is not the key" in problem else path
    assert str(error.value).startswith(f"{named}: {problem}")


def test_a_directory_is_no_file(files, clock, tmp_path):
    with pytest.raises(CertificateError, match="cannot be read: Is a directory"):
        ServerCertificate.load(CertificateFiles(tmp_path, files.key), clock)


def test_a_certificate_that_has_expired_is_named(files, clock, servers_ca):
    rotate(files, servers_ca.server(lifetime=-DAY), clock)
    with pytest.raises(CertificateError, match=r"server.crt: has expired"):
        ServerCertificate.load(files, clock)


def test_one_authority_in_force_beside_an_expired_one_will_do(files, clock, clients_ca):
    expired = Authority.create("clients of yesterday", lifetime=-DAY)
    files.client_ca.write_bytes(expired.chain + clients_ca.chain)
    ServerCertificate.load(files, clock)


def test_the_private_key_is_in_no_repr_log_or_error(files, clock, servers_ca):
    secret = servers_ca.server().key
    files.key.write_bytes(secret)
    with pytest.raises(CertificateError) as mismatch:
        ServerCertificate.load(files, clock)
    rotate(files, servers_ca.server(), clock)
    with capture_logs() as logs:
        certificate = ServerCertificate.load(files, clock)
        replace(files.key, secret)
        clock.advance(seconds=CHECK_SECONDS)
        certificate.poll()
    written = f"{mismatch.value!r} {mismatch.value.__cause__!r} {certificate!r} {logs}"
    assert not [line for line in secret.decode().splitlines()[1:-1] if line in written]
    assert os.fspath(files.key) in written


async def test_two_servers_each_follow_the_files(certificate, files, clock, servers_ca):
    async with AsyncExitStack() as stack:
        doors = [
            await stack.enter_async_context(
                doorkeeper(CertificateIdentification(), certificate.credentials())
            )
            for _ in range(2)
        ]
        renewed = servers_ca.server()
        rotate(files, renewed, clock)
        serials = [await shown(door, servers_ca) for door in doors]
    assert serials == [renewed.certificate.serial_number] * 2
