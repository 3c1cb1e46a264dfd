"""Envoy: a proxy that is not ours, as it stands between callers and servers."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from e2e.processes import PROGRAMS, eventually


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
def envoy(configuration: Mapping[str, Any]) -> Iterator[Envoy]:
    """Run one with a configuration of one listener, on one thread, until the block ends."""
    with TemporaryDirectory() as directory:
        admin = Path(directory) / "admin"
        process = subprocess.Popen(
            [
                *(PROGRAMS / "envoy", "--config-yaml", json.dumps(configuration)),
                *("--admin-address-path", admin, "--concurrency", "1", "--disable-hot-restart"),
                *("--log-level", "error"),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            address = eventually(lambda: _address(process, admin), "Envoy listens")
            yield Envoy(address, admin.read_text())
        finally:
            process.terminate()
            process.wait()


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
