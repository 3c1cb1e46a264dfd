"""The server's certificate, and the authorities of its clients', as the files are now (S15).

gRPC asks before each handshake, so that a renewed certificate is shown to the next connection and
no open one is dropped. It offers TLS 1.2 and 1.3 only.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeAlias, cast

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from prometheus_client import Counter, Gauge

from stepup.domain.errors import StoreUnavailableError
from stepup.service.ports import Clock
from stepup.system import pem

CHECK_SECONDS = 1.0
"""How often the files are looked at, at the most."""
CONNECTION_AGE: Final = timedelta(hours=1)
"""How old a connection may become; gRPC adds or takes off a tenth, at random.

A handshake is the only time at which client certificates are verified: without a limit a connection
would outlive its certificate, or an authority that was withdrawn."""

_READS = 3
_HANDOVER_SECONDS = 0.2
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SERVED = "an RSA, P-256, P-384, P-521 or Ed25519 key: gRPC takes no other"
_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_certificate_reload_failures",
    "Changes of the certificate files that could not be taken over; the earlier ones serve on.",
)
_not_after = Gauge(
    "stepup_certificate_not_after_seconds",
    "When the certificate that the server shows expires, in seconds since 1970.",
    multiprocess_mode="livemin",
)

_Stamp: TypeAlias = tuple[tuple[int, ...] | None, ...]


class CertificateError(Exception):
    """The files cannot be used. The message names setting and file, and never a key (S11)."""


class _ChangingError(CertificateError):
    """Somebody is at the files right now."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files: the chain, leaf first; its private key; and the authorities of clients.

    Without `client_ca` clients are not asked for certificates; with it they must have one.
    """

    chain: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.chain, self.key) + ((self.client_ca,) if self.client_ca else ())

    def name_of(self, path: Path) -> str:
        """A file as errors name it, with its setting: `tls.key: /etc/stepup/tls.key`."""
        settings = {self.client_ca: "client_ca", self.key: "key", self.chain: "certificate"}
        return f"tls.{settings[path]}: {path}"


@dataclass(frozen=True, slots=True, repr=False)
class _Loaded:
    """What the files had, and what they looked like from outside at that time."""

    stamp: _Stamp
    configuration: grpc.ServerCertificateConfiguration
    not_after: datetime
    usable_until: datetime


class ServerCertificate:
    """What the server proves itself with, and whom it believes; see `load`."""

    def __init__(self, files: CertificateFiles, clock: Clock, loaded: _Loaded) -> None:
        self._files = files
        self._clock = clock
        self._loaded = loaded
        self._seen = loaded.stamp
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._reported: tuple[_Stamp, str] | None = None
        _not_after.set(loaded.not_after.timestamp())

    @classmethod
    def load(cls, files: CertificateFiles, clock: Clock) -> Self:
        """Read the files.

        Raises:
            CertificateError: a file is missing or malformed, the key is encrypted, of a kind that
                gRPC does not take, or not that of the certificate, or the certificate is not in
                force, or no authority is any more, or gRPC does not take one of them.
        """
        return cls(files, clock, _load(files, clock.now()))

    def __repr__(self) -> str:
        return f"ServerCertificate({self._files!r})"

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for `add_secure_port` that follow the files."""
        given = self._loaded

        def latest() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls it on threads of its own, before a handshake. None is "as before".
            nonlocal given
            self.poll()
            loaded = self._loaded
            if loaded is given:
                return None
            given = loaded
            # Whoever asked just before takes what gRPC is about to free, and the process crashes
            # (grpc/grpc#36693). Nobody else gets to ask while this waits: let them take it first.
            time.sleep(_HANDOVER_SECONDS)
            return loaded.configuration

        return grpc.dynamic_ssl_server_credentials(
            given.configuration,
            # grpcio's stubs do not know that it may give None.
            cast("Callable[[], grpc.ServerCertificateConfiguration]", latest),
            require_client_authentication=self._files.client_ca is not None,
        )

    def demand_in_force(self) -> None:
        """Demand that handshakes can succeed with what the server shows and believes.

        Raises:
            StoreUnavailableError: its certificate has expired, or all authorities of clients have.
        """
        if self._clock.now() >= self._loaded.usable_until:
            raise StoreUnavailableError("the certificate or all client authorities have expired")

    def poll(self) -> None:
        """Take over files that have changed; it never fails, and looks once a second at the most.

        What has changed has to look the same at the next look: whoever writes may not be done yet.
        Handshakes do it as well. But without new connections only polling raises the alert.
        """
        # Whoever comes while another looks goes on with what there is: no handshake waits.
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = self._clock.monotonic()
            if now - self._checked_at >= CHECK_SECONDS:
                self._checked_at = now
                self._look()
        finally:
            self._lock.release()

    def _look(self) -> None:
        seen, stamp = self._seen, _stamp(self._files)
        self._seen = stamp
        if stamp == self._loaded.stamp or stamp != seen:
            return
        try:
            loaded = _load(self._files, self._clock.now())
        except _ChangingError:
            return
        except CertificateError as error:
            # It is looked at again: the other half of the change may be under way.
            self._report(stamp, str(error))
            return
        self._loaded, self._reported = loaded, None
        _not_after.set(loaded.not_after.timestamp())
        _log.info("certificate_reloaded", not_after=loaded.not_after.isoformat())

    def _report(self, stamp: _Stamp, problem: str) -> None:
        if self._reported != (stamp, problem):
            self._reported = stamp, problem
            _failures.inc()
            _log.error("certificate_not_reloaded", problem=problem)


def _stamp(files: CertificateFiles) -> _Stamp:
    """What changes when a file does; links are followed, as Kubernetes swaps a directory's."""
    return tuple(_stamp_of(path) for path in files.paths)


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # The change time tells of a mode or an owner as well, which can make a file readable.
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(files: CertificateFiles, now: datetime) -> _Loaded:
    stamp, contents = _read_together(files)
    with _naming(files, files.chain):
        chain = pem.parse_certificates(contents[files.chain])
    with _naming(files, files.key):
        key = pem.parse_private_key(contents[files.key])
    _check_pair(files, chain[0], key, now)
    authorities = []
    if files.client_ca is not None:
        with _naming(files, files.client_ca):
            authorities = pem.parse_certificates(contents[files.client_ca])
            _check_authorities(authorities, now)
    # gRPC gets what was parsed and checked here, and not the files: it sees no certificate behind a
    # byte-order mark or indentation, and drops without an error what it cannot read.
    pair = (pem.key_to_pem(key), pem.to_pem(chain))
    _demand_taken(files, pair, authorities)
    configuration = grpc.ssl_server_certificate_configuration(
        [pair], pem.to_pem(authorities) or None
    )
    not_after = chain[0].not_valid_after_utc
    believed_until = max((each.not_valid_after_utc for each in authorities), default=not_after)
    return _Loaded(stamp, configuration, not_after, min(not_after, believed_until))


def _read_together(files: CertificateFiles) -> tuple[_Stamp, dict[Path, bytes]]:
    """Read the files as they were at one time: a new key is no good with an old certificate."""
    for _ in range(_READS):
        stamp = _stamp(files)
        contents = {}
        for path in files.paths:
            with _naming(files, path):
                contents[path] = pem.read(path)
        if stamp == _stamp(files):
            return stamp, contents
    raise _ChangingError(f"{files.chain}: changes while it is read, or the files beside it do")


@contextmanager
def _naming(files: CertificateFiles, path: Path) -> Iterator[None]:
    """Have the error name the file and its setting."""
    try:
        yield
    except pem.PemError as error:
        raise CertificateError(f"{files.name_of(path)}: {error}") from None


def _check_pair(
    files: CertificateFiles, leaf: x509.Certificate, key: PrivateKeyTypes, now: datetime
) -> None:
    """Check that the server can prove itself with certificate and key."""
    with _naming(files, files.key):
        if key.public_key() != leaf.public_key():
            raise pem.PemError(f"is not the key of the certificate in {files.chain}")
        # What gRPC does not take it drops without an error, and shows the earlier one until that
        # ends.
        if not _is_served(key):
            raise pem.PemError(f"must be {_SERVED}")
    with _naming(files, files.chain):
        if leaf.not_valid_before_utc > now:
            raise pem.PemError("is not in force yet")
        if leaf.not_valid_after_utc <= now:
            raise pem.PemError("has expired")


def _is_served(key: object) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return isinstance(key.curve, _CURVES)
    return isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)


def _check_authorities(authorities: Iterable[x509.Certificate], now: datetime) -> None:
    # Bundles keep expired ones for long; one that is in force will do.
    if all(ca.not_valid_after_utc <= now for ca in authorities):
        raise pem.PemError("every authority in it has expired")


def _demand_taken(
    files: CertificateFiles, pair: tuple[bytes, bytes], authorities: list[x509.Certificate]
) -> None:
    """Demand that gRPC itself takes the pair and each authority, before it is said to serve them.

    It reports what it does not take only when a port is added; of a bundle it takes what stands
    before the first certificate that it cannot read. So each authority has its turn alone.
    """
    if not _is_taken(pair, None):
        raise CertificateError(f"{files.name_of(files.chain)}: gRPC does not take it, or its key")
    for number, authority in enumerate(authorities, start=1):
        if files.client_ca is not None and not _is_taken(pair, pem.to_pem([authority])):
            raise CertificateError(
                f"{files.name_of(files.client_ca)}: gRPC does not take certificate {number} of it"
            )


def _is_taken(pair: tuple[bytes, bytes], authority: bytes | None) -> bool:
    credentials = grpc.ssl_server_credentials([pair], authority, authority is not None)
    with ThreadPoolExecutor(1) as executor:
        server = grpc.server(executor)  # of no methods
        try:
            # A random name of this machine only.
            server.add_secure_port(f"unix-abstract:stepup-{secrets.token_hex(16)}", credentials)
        except RuntimeError:
            return False
        finally:
            # One that was never started would keep its socket for good.
            server.start()
            server.stop(None).wait()
    return True
