"""Certificates for both sides, and the files of a server."""

from datetime import UTC, datetime

import pytest
from stepup_tests.certificates import authority
from stepup_tests.clock import ManualClock
from stepup_tests.engines import make_engine

from stepup.rpc.identity.certificate_files import CertificateFiles

__all__ = ["clients_ca", "clock", "files", "make_engine", "servers_ca"]


@pytest.fixture
def clock():
    """A clock that stands at the machine's time: certificates are in force by that."""
    return ManualClock(datetime.now(UTC))


@pytest.fixture
def servers_ca():
    return authority("servers")


@pytest.fixture
def clients_ca():
    return authority("clients")


@pytest.fixture
def files(tmp_path, servers_ca, clients_ca):
    """The files of a server that demands certificates."""
    chain, key = servers_ca.server().write(tmp_path, "server")
    client_ca = tmp_path / "clients.crt"
    client_ca.write_bytes(clients_ca.chain)
    return CertificateFiles(chain, key, client_ca)
