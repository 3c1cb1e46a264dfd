"""Certificates are replaced while a server process serves, and no call fails (S15)."""

import socket
import ssl

import grpc
import pytest
from grpc import StatusCode
from stepup_tests.certificates import Authority
from stepup_tests.e2e.guarded import CLIENTS, SERVERS, SOAR, configured, tls
from stepup_tests.e2e.load import check_on, connection, under_load
from stepup_tests.e2e.metrics import LISTEN, metrics
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.serving import serving
from stepup_tests.e2e.topologies import DIRECT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(*DIRECT, reason="Envoy has certificates of its own"),
]

RULES = f"""
[[callers]]
name = "soar"
identities = ["{SOAR}"]

[[callers.rules]]
methods = ["StepUpService/CheckStepUp"]
tenants = ["acme"]
operations = ["response.*"]
"""
NONSENSE = b"-----BEGIN CERTIFICATE-----\nnonsense\n"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A directory that is a link to one, as a mounted Kubernetes secret is."""
    directory = tmp_path_factory.mktemp("rotation")
    (directory / "0").mkdir()
    (directory / "live").symlink_to("0")
    return directory / "live"


@pytest.fixture(scope="module")
def server(live):
    """A server that demands client certificates; the tests leave it with one that is good."""
    arguments = configured(live.parent, LISTEN, tls(live), RULES)
    with serving(live.parent, *arguments, insecure=False) as server:
        yield server


def swap(live, renewed):
    """Replace everything at once, as the kubelet does."""
    directory = live.with_name(f"{renewed.certificate.serial_number}")
    directory.mkdir()
    renewed.write(directory, "server")
    (directory / "clients.pem").write_bytes((live / "clients.pem").read_bytes())
    draft = live.with_name("draft")
    draft.symlink_to(directory)
    draft.rename(live)


def rename(live, renewed):
    """Put one file after the other in the place of the former."""
    for draft in renewed.write(live, "draft"):
        draft.rename(draft.with_stem("server"))


def overwrite(live, renewed):
    """Write one file after the other over the former."""
    renewed.write(live, "server")


def shown(server):
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cadata=SERVERS.chain.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return int(wrapped.getpeercert()["serialNumber"], 16)


def is_shown(server, renewed):
    """Wait until a new connection is shown a certificate."""
    eventually(
        lambda: shown(server) == renewed.certificate.serial_number,
        "the renewed certificate is shown",
    )


def is_logged(server, text):
    """Wait until something stands in the log."""
    eventually(lambda: text in server.stderr.read_text(), f"the log says {text}")


def failures(server):
    """How many changes could not be taken over, by the metric."""
    return metrics(server)["stepup_certificate_reload_failures_total",]


def test_s15_a_certificate_rotates_under_load_and_no_call_fails(server, live):
    before = failures(server)
    with under_load(server, CLIENTS.client(SOAR)) as load:
        for replace in (swap, rename, overwrite):
            renewed = SERVERS.server()
            replace(live, renewed)
            is_shown(server, renewed)
            load.go_on()
    assert failures(server) == before


def test_s15_broken_files_fail_no_call_and_raise_an_alert(server, live):
    before, serial, renewed = failures(server), shown(server), SERVERS.server()
    with under_load(server, CLIENTS.client(SOAR)) as load:
        (live / "server.crt").write_bytes(NONSENSE)
        is_logged(server, "server.crt: holds no certificates in PEM")
        assert failures(server) == before + 1
        load.go_on()
        (live / "server.crt").write_bytes(renewed.chain)
        is_logged(server, "server.key: is not the key of the certificate")
        assert failures(server) == before + 2
        assert shown(server) == serial
        load.go_on()
        (live / "server.key").write_bytes(renewed.key)
        is_shown(server, renewed)
        load.go_on()
    assert failures(server) == before + 2


def test_s15_the_authority_of_clients_is_replaced_under_load_and_no_call_fails(server, live):
    successor = Authority.create("clients of tomorrow")
    old, new = CLIENTS.client(SOAR), successor.client(SOAR)

    def answer(client):
        try:
            with connection(server, client) as channel:
                check_on(channel)
        except grpc.RpcError as error:
            return error.code()
        return StatusCode.OK

    assert answer(new) is StatusCode.UNAVAILABLE
    with under_load(server, old) as load:
        (live / "clients.pem").write_bytes(CLIENTS.chain + successor.chain)
        eventually(lambda: answer(new) is StatusCode.OK, "the new authority is trusted")
        load.go_on()
        load.credential = new
        load.go_on()
        (live / "clients.pem").write_bytes(successor.chain)
        eventually(lambda: answer(old) is StatusCode.UNAVAILABLE, "the old authority is not")
        load.go_on()
        assert answer(new) is StatusCode.OK
    (live / "clients.pem").write_bytes(CLIENTS.chain)
    eventually(lambda: answer(old) is StatusCode.OK, "the old authority is trusted again")
