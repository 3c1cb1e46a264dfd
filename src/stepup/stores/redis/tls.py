"""Connections over TLS that share what is read from files: to read it takes 20 ms and more."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

from stepup.stores.redis.url import Tls
from stepup.system import pem

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
    if path is None:
        return None
    try:
        return path, Path(path).stat().st_mtime_ns
    except OSError as error:
        raise TlsFileError(f"{path}: cannot be read: {error.strerror}") from None


class TlsFileError(OSError):
    """A PEM file cannot be used; the message names it and the parameter of the URL, and no key."""


def check_files(tls: Tls) -> None:
    """Demand that the files can be used as they are now.

    Raises:
        OSError: one cannot be read, or is not what its parameter needs.
    """
    _context(*map(_version, (tls.ca_certs, tls.certfile, tls.keyfile)))


@lru_cache(maxsize=4)
def _context(ca_certs: _Version, certfile: _Version, keyfile: _Version) -> ssl.SSLContext:
    if ca_certs is None:
        context = ssl.create_default_context()
    else:
        with _naming("ssl_ca_certs", ca_certs):
            context = pem.context_trusting(pem.read(Path(ca_certs[0])))
    if certfile is not None and keyfile is not None:
        with _naming("ssl_certfile", certfile):
            _check_plain(certfile, pem.parse_certificates)
        with _naming("ssl_keyfile", keyfile):
            # OpenSSL would ask for the passphrase of an encrypted key on the terminal.
            _check_plain(keyfile, pem.parse_private_key)
            try:
                context.load_cert_chain(certfile[0], keyfile[0])
            except ssl.SSLError:
                raise pem.PemError("is not the key of the certificate in ssl_certfile") from None
    return context


def _check_plain(file: tuple[str, int], parse: Callable[[bytes], object]) -> None:
    content = pem.read(Path(file[0]))
    parse(content)
    pem.demand_plain(content)


@contextmanager
def _naming(parameter: str, file: tuple[str, int]) -> Iterator[None]:
    try:
        yield
    except pem.PemError as error:
        raise TlsFileError(f"{parameter}: {file[0]}: {error}") from None
