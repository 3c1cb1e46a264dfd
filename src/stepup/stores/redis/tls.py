"""Connections over TLS that share what is read from files: to read it takes 20 ms and more."""

import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

_Version: TypeAlias = tuple[str, int] | None


class TlsConnection(SSLConnection):
    """A connection to a server whose certificate and host name are verified.

    Files are read again when they have changed: the next connection has what is in them.
    """

    def _connection_arguments(self) -> Mapping[str, Any]:
        versions = map(_version, (self.ca_certs, self.certfile, self.keyfile))
        return {**super(SSLConnection, self)._connection_arguments(), "ssl": _context(*versions)}


class TlsMasterConnection(SentinelManagedConnection, TlsConnection):
    """The same to a master that Sentinels name."""


def _version(path: str | None) -> _Version:
    return None if path is None else (path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _context(ca_certs: _Version, certfile: _Version, keyfile: _Version) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_certs and ca_certs[0])
    if certfile is not None:
        context.load_cert_chain(certfile[0], keyfile and keyfile[0])
    return context
