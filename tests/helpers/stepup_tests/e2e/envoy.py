"""Envoy: a proxy that is not ours, as it stands between callers and servers."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

import yaml
from cryptography import x509
from stepup_tests.certificates import LOCALHOST
from stepup_tests.e2e.guarded import SERVERS
from stepup_tests.e2e.processes import PROGRAMS, eventually
from stepup_tests.places import ROOT

CONFIGURATION = (ROOT / "deploy" / "envoy" / "envoy.yaml").read_text()
CERTIFICATE = SERVERS.issue(*LOCALHOST, x509.DNSName("stepup"))
"""Of the servers, and of Envoy itself."""


@dataclass(frozen=True)
class Envoy:
    """One that runs: where it listens, and where its administration does."""

    address: str
    admin: str

    def healthy(self, cluster: str) -> int:
        """How many servers of a cluster it sends calls to."""
        [status] = [
            each
            for each in _read(self.admin, "clusters")["cluster_statuses"]
            if each["name"] == cluster
        ]
        return sum(
            set(host["health_status"]) == {"eds_health_status"} for host in status["host_statuses"]
        )


@contextmanager
def in_front_of(directory: Path, *addresses: str, has_tls: bool = True) -> Iterator[Envoy]:
    """Envoy with our configuration; servers, port and files are those of this machine.

    Without TLS it stands before servers that serve whoever comes, as a trial of `stepup` does. Then
    connections to servers are short, so that each of a server's workers gets its share.
    """
    CERTIFICATE.write(directory, "tls")
    (directory / "ca.crt").write_bytes(SERVERS.chain)
    subprocess.run(
        ["make", "--silent", "descriptors", f"OUT={directory / 'stepup.binpb'}"],
        cwd=ROOT,
        check=True,
    )
    configuration = yaml.safe_load(CONFIGURATION.replace("/etc/envoy/stepup", str(directory)))
    configuration["admin"]["address"] = _socket("127.0.0.1:0")
    [listener] = configuration["static_resources"]["listeners"]
    listener["address"] = _socket("127.0.0.1:0")
    [cluster] = configuration["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [
        {"endpoint": {"address": _socket(address)}} for address in addresses
    ]
    if not has_tls:
        [chain] = listener["filter_chains"]
        del chain["transport_socket"], cluster["transport_socket"], listener["listener_filters"]
        [options] = cluster["typed_extension_protocol_options"].values()
        options["common_http_protocol_options"] = {"max_requests_per_connection": 5}
    with envoy(configuration, directory / "envoy.log") as running:
        eventually(lambda: running.healthy("stepup") == len(addresses), "Envoy finds all healthy")
        yield running


@contextmanager
def before_web(directory: Path, address: str) -> Iterator[Envoy]:
    """Run one as deploy/envoy/web.yaml says, before a web process at an address."""
    CERTIFICATE.write(directory, "tls")
    text = (ROOT / "deploy" / "envoy" / "web.yaml").read_text()
    configuration = yaml.safe_load(text.replace("/etc/envoy/web", str(directory)))
    configuration["admin"]["address"] = _socket("127.0.0.1:0")
    [listener] = configuration["static_resources"]["listeners"]
    listener["address"] = _socket("127.0.0.1:0")
    [cluster] = configuration["static_resources"]["clusters"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    endpoints["lb_endpoints"] = [{"endpoint": {"address": _socket(address)}}]
    with envoy(configuration, directory / "envoy.log") as running:
        eventually(lambda: running.healthy("web") == 1, "Envoy finds the web process healthy")
        yield running


@contextmanager
def envoy(configuration: Mapping[str, Any], log: Path = Path(os.devnull)) -> Iterator[Envoy]:
    """Run one with a configuration of one listener, on one thread, until the block ends.

    What it says of calls is in the log.
    """
    with TemporaryDirectory() as directory, log.open("ab") as accesses:
        admin = Path(directory) / "admin"
        process = subprocess.Popen(
            [
                *(PROGRAMS / "envoy", "--config-yaml", json.dumps(configuration)),
                *("--admin-address-path", admin, "--concurrency", "1", "--disable-hot-restart"),
                *("--log-level", "error"),
            ],
            stdout=accesses,
        )
        try:
            address = eventually(lambda: _address(process, admin), "Envoy listens")
            yield Envoy(address, admin.read_text())
        finally:
            process.terminate()
            process.wait()


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _address(process: subprocess.Popen[bytes], admin: Path) -> str | None:
    """Where it listens, once it says so."""
    if process.poll() is not None:
        raise AssertionError(f"Envoy ended at once, with status {process.returncode}")
    try:
        [listener] = _read(admin.read_text(), "listeners")["listener_statuses"]
    except (OSError, ValueError):
        return None
    where = listener["local_address"]["socket_address"]
    return f"{where['address']}:{where['port_value']}"


def _read(admin: str, page: str) -> Any:
    with urlopen(f"http://{admin}/{page}?format=json", timeout=5) as response:  # Envoy's own
        return json.load(response)
