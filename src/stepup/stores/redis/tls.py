"""Connections over TLS that share what is read from files: to read it takes 20 ms and more."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from redis.asyncio import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

from stepup.stores.redis.url import Tls
from stepup.system import pem
from stepup.system.file_watch import FileVersions, FileWatch


class TlsConnection(SSLConnection):
    """A connection to a server whose certificate and host name are verified.

    Files are read again when they have changed: the next connection has what is in them.
    """

    def _connection_arguments(self) -> Mapping[str, Any]:
        context = _context_of(Tls(self.ca_certs, self.certfile, self.keyfile))
        return {**super(SSLConnection, self)._connection_arguments(), "ssl": context}


class TlsMasterConnection(SentinelManagedConnection, TlsConnection):
    """The same to a master that Sentinels name."""


class TlsFileError(OSError):
    """A PEM file cannot be used; the message names it and the parameter of the URL, and no key."""


def check_files(tls: Tls) -> None:
    """Demand that the files can be used as they are now.

    Raises:
        OSError: one cannot be read, or is not what its parameter needs.
    """
    _context_of(tls)


def _context_of(tls: Tls) -> ssl.SSLContext:
    paths = (tls.ca_certs, tls.certfile, tls.keyfile)
    return _context(tls, FileWatch(*[Path(path) for path in paths if path is not None]).versions)


@lru_cache(maxsize=4)
def _context(tls: Tls, _: FileVersions) -> ssl.SSLContext:
    if tls.ca_certs is None:
        context = ssl.create_default_context()
    else:
        with _naming("ssl_ca_certs", tls.ca_certs):
            context = pem.context_trusting(pem.read(Path(tls.ca_certs)))
    if tls.certfile is not None and tls.keyfile is not None:
        with _naming("ssl_certfile", tls.certfile):
            pem.check_plain_file(tls.certfile, pem.parse_certificates)
        with _naming("ssl_keyfile", tls.keyfile):
            # OpenSSL would ask for the passphrase of an encrypted key on the terminal.
            pem.check_plain_file(tls.keyfile, pem.parse_private_key)
            try:
                context.load_cert_chain(tls.certfile, tls.keyfile)
            except ssl.SSLError:
                raise pem.PemError("is not the key of the certificate in ssl_certfile") from None
    return context


@contextmanager
def _naming(parameter: str, path: str) -> Iterator[None]:
    try:
        yield
    except pem.PemError as error:
        raise TlsFileError(f"{parameter}: {path}: {error}") from None
