"""The PEM files of the server's TLS, read together and checked before gRPC gets them (S15)."""

import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from stepup.system import pem
from stepup.system.file_watch import FileVersions, FileWatch

_READS = 3
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


class CertificateError(Exception):
    """The files cannot be used. The message names setting and file, and never a key (S11)."""


class CertificateChangingError(CertificateError):
    """The files changed while they were read: another program is writing them."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """The paths of PEM files.

    Args:
        chain: the server's certificate first, then those that issued it.
        key: the private key of the server's certificate.
        client_ca: the authorities that issue certificates of clients. Without it, the server asks
            clients for no certificate; with it, each client must have one.
    """

    chain: Path
    key: Path
    client_ca: Path | None = None

    def watch(self) -> FileWatch:
        """A watch on all the files."""
        return FileWatch(*self._paths)

    def load(self, now: datetime) -> "LoadedCertificate":
        """Read and check the files.

        Raises:
            CertificateChangingError: they kept changing while they were read.
            CertificateError: a file is missing or malformed; the key is encrypted, of a kind that
                gRPC does not support, or not the key of the certificate; the certificate is not in
                force; all authorities have expired; or gRPC rejects the certificate or an
                authority.
        """
        versions, contents = self._read_together()
        with self._naming(self.chain):
            chain = pem.parse_certificates(contents[self.chain])
        with self._naming(self.key):
            key = pem.parse_private_key(contents[self.key])
        self._check_pair(chain[0], key, now)
        authorities = []
        if self.client_ca is not None:
            with self._naming(self.client_ca):
                authorities = pem.parse_certificates(contents[self.client_ca])
                _check_authorities(authorities, now)
        # gRPC gets what was parsed and checked here, not the content of the files: it overlooks a
        # certificate behind a byte-order mark or indentation, and drops without an error what it
        # cannot read.
        pair = (pem.key_to_pem(key), pem.to_pem(chain))
        self._check_that_grpc_takes(pair, authorities)
        configuration = grpc.ssl_server_certificate_configuration(
            [pair], pem.to_pem(authorities) or None
        )
        not_after = chain[0].not_valid_after_utc
        trusted_until = max((each.not_valid_after_utc for each in authorities), default=not_after)
        return LoadedCertificate(versions, configuration, not_after, min(not_after, trusted_until))

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.chain, self.key) + ((self.client_ca,) if self.client_ca else ())

    def _read_together(self) -> tuple[FileVersions, dict[Path, bytes]]:
        """Read the files as they were at one time: a new key does not fit an old certificate."""
        for _ in range(_READS):
            watch = self.watch()
            contents = {}
            for path in self._paths:
                with self._naming(path):
                    contents[path] = pem.read(path)
            if not watch.look():
                return watch.versions, contents
        raise CertificateChangingError(
            f"{self.chain}: this file, or the key or client_ca, changes while it is read"
        )

    @contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        """Begin the error's message with setting and file: `tls.key: /etc/stepup/tls.key: ...`."""
        settings = {self.client_ca: "client_ca", self.key: "key", self.chain: "certificate"}
        try:
            yield
        except pem.PemError as error:
            raise CertificateError(f"tls.{settings[path]}: {path}: {error}") from None

    def _check_pair(self, leaf: x509.Certificate, key: PrivateKeyTypes, now: datetime) -> None:
        """Check that certificate and key belong together, and are in force."""
        with self._naming(self.key):
            if key.public_key() != leaf.public_key():
                raise pem.PemError(f"is not the key of the certificate in {self.chain}")
            # gRPC drops another kind of key without an error, and shows the earlier certificate
            # until that expires.
            if not _is_supported(key):
                raise pem.PemError(
                    "must be an RSA, P-256, P-384, P-521 or Ed25519 key: gRPC takes no other"
                )
        with self._naming(self.chain):
            if leaf.not_valid_before_utc > now:
                raise pem.PemError("is not in force yet")
            if leaf.not_valid_after_utc <= now:
                raise pem.PemError("has expired")

    def _check_that_grpc_takes(
        self, pair: tuple[bytes, bytes], authorities: list[x509.Certificate]
    ) -> None:
        """Check each file with gRPC itself, before the log says that the server shows it.

        gRPC reports what it rejects only when a port is added, and of a bundle it takes the part
        before the first certificate that it cannot read. So each authority is tried alone.
        """
        with self._naming(self.chain):
            if not _grpc_takes(pair, None):
                raise pem.PemError("gRPC does not take it, or its key")
        if self.client_ca is None:
            return
        with self._naming(self.client_ca):
            for number, authority in enumerate(authorities, start=1):
                if not _grpc_takes(pair, pem.to_pem([authority])):
                    raise pem.PemError(f"gRPC does not take certificate {number} of it")


@dataclass(frozen=True, slots=True, repr=False)
class LoadedCertificate:
    """The content of the files for gRPC, and the versions of the files that it came from.

    `not_after` is when the server's certificate expires; `usable_until` is when that or the last
    authority of clients does, whichever is first.
    """

    versions: FileVersions
    configuration: grpc.ServerCertificateConfiguration
    not_after: datetime
    usable_until: datetime


def _is_supported(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)


def _check_authorities(authorities: Iterable[x509.Certificate], now: datetime) -> None:
    # Bundles keep expired authorities for long; one that is in force is enough.
    if all(ca.not_valid_after_utc <= now for ca in authorities):
        raise pem.PemError("every authority in it has expired")


def _grpc_takes(pair: tuple[bytes, bytes], authority: bytes | None) -> bool:
    credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
    with ThreadPoolExecutor(1) as executor:
        server = grpc.server(executor)  # without methods
        try:
            # A random name, which only this machine knows.
            server.add_secure_port(f"unix-abstract:stepup-{secrets.token_hex(16)}", credentials)
        except RuntimeError:
            return False
        finally:
            # A server that was never started keeps its socket for ever.
            server.start()
            server.stop(None).wait()
    return True
