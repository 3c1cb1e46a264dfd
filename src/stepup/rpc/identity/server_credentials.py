"""The server's TLS credentials, which follow their files while the server runs (S15).

gRPC asks before each handshake: the next connection gets a renewed certificate, and those that are
open stay. gRPC offers TLS 1.2 and 1.3 only.
"""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, cast

import grpc
import structlog
from prometheus_client import Counter, Gauge

from stepup.domain.errors import StoreUnavailableError
from stepup.rpc.identity.certificate_files import (
    CertificateChangingError,
    CertificateError,
    CertificateFiles,
)
from stepup.service.ports import Clock
from stepup.system.file_watch import FileVersions

CHECK_SECONDS = 1.0
"""The shortest time between two looks at the files."""
CONNECTION_AGE: Final = timedelta(hours=1)
"""How old a connection may become; gRPC adds or subtracts a tenth, at random.

Client certificates are verified only in a handshake: without this limit a connection would outlive
its certificate, or an authority that was withdrawn."""

_HANDOVER_SECONDS = 0.2
_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_certificate_reload_failures",
    "Changes of the certificate files that the server could not use; it keeps the earlier ones.",
)
_not_after = Gauge(
    "stepup_certificate_not_after_seconds",
    "When the certificate that the server shows expires, in seconds since 1970.",
    multiprocess_mode="livemin",
)


class ServerCertificate:
    """The certificate that the server shows, and the authorities of clients that it trusts.

    Raises:
        CertificateError: as `CertificateFiles.load`.
    """

    def __init__(self, files: CertificateFiles, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._watch = files.watch()
        self._loaded = files.load(clock.now())
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._reported: tuple[FileVersions, str] | None = None
        _not_after.set(self._loaded.not_after.timestamp())

    def __repr__(self) -> str:
        return f"ServerCertificate({self._files!r})"

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for `add_secure_port` that follow the files."""
        given = self._loaded

        def latest() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls this on its own threads, before a handshake. None means "as before".
            nonlocal given
            self.poll()
            loaded = self._loaded
            if loaded is given:
                return None
            given = loaded
            # A handshake that asked just before still uses what gRPC is about to free, and the
            # process would crash (grpc/grpc#36693). No other handshake asks during this sleep, so
            # that the earlier one gets ahead.
            time.sleep(_HANDOVER_SECONDS)
            return loaded.configuration

        return grpc.dynamic_ssl_server_credentials(
            given.configuration,
            # grpcio's stubs do not know that the function may return None.
            cast("Callable[[], grpc.ServerCertificateConfiguration]", latest),
            require_client_authentication=self._files.client_ca is not None,
        )

    def demand_in_force(self) -> None:
        """Demand that handshakes can succeed.

        Raises:
            StoreUnavailableError: the server's certificate or all authorities of clients have
                expired.
        """
        if self._clock.now() >= self._loaded.usable_until:
            raise StoreUnavailableError("the certificate or all client authorities have expired")

    def poll(self) -> None:
        """Use the files that have changed; it never fails, and looks once a second at most.

        A file that has changed must look the same at the next look, so that a writer can finish.
        Handshakes poll as well, but without new connections only the regular poll raises the alert.
        """
        # A handshake does not wait for a look of another thread: it uses the loaded files.
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
        if self._watch.look() or self._watch.versions == self._loaded.versions:
            return
        try:
            loaded = self._files.load(self._clock.now())
        except CertificateChangingError:
            return
        except CertificateError as error:
            # The next look reads the files again: the other half of the change may follow.
            self._report(str(error))
            return
        self._loaded, self._reported = loaded, None
        _not_after.set(loaded.not_after.timestamp())
        _log.info("certificate_reloaded", not_after=loaded.not_after.isoformat())

    def _report(self, problem: str) -> None:
        """Log and count a problem, once for each version of the files."""
        report = self._watch.versions, problem
        if report != self._reported:
            self._reported = report
            _failures.inc()
            _log.error("certificate_not_reloaded", problem=problem)
