"""A caller's certificate: its one URI SAN, a SPIFFE id, is the identity (S15, S29)."""

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.engine import Invocation
from stepup.rpc.identity.server_credentials import CONNECTION_AGE
from stepup.service.ports import Clock

EXPIRED_FOR: Final = 1.1 * CONNECTION_AGE
"""From when after its end a certificate does not count, however its connection came about."""

# The leaf. gRPC's own properties of the SANs do not serve: `peer_uri` is a C string, which ends
# at a NUL, so that `spiffe://acme/soar\0/other` reads `spiffe://acme/soar` there (S29).
_CERTIFICATE = "x509_pem_cert"

# SPIFFE-ID §2: no user, port, query or fragment. X509-SVID §2: a workload's id has a path.
_MAX_SPIFFE_ID_BYTES = 2048
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")


def is_spiffe_id(uri: str) -> bool:
    """Whether the whole of it is the SPIFFE id of a workload."""
    return len(uri) <= _MAX_SPIFFE_ID_BYTES and _SPIFFE_ID.fullmatch(uri) is not None


class CertificateIdentification:
    """Reads the client certificate that the TLS handshake has verified.

    That it was issued by a known authority and is in force is the handshake's business; a server
    that does not ask for certificates has none to show. But where a client resumes a session gRPC
    does not verify the certificate again, for days. So it may be no older than on a connection
    that was opened while it was in force: those are not cut off when it ends.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """The SPIFFE id of the certificate.

        Raises:
            CallerUnauthenticatedError: there is no certificate, it cannot be parsed, it expired
                long ago, there is not exactly one URI SAN in it (X509-SVID §2), or that is not the
                SPIFFE id of a workload.
        """
        certificate = b"".join(invocation.auth_context().get(_CERTIFICATE, ()))
        if not certificate:
            raise CallerUnauthenticatedError("a client certificate is required")
        found = _parse(certificate)
        if self._clock.now() >= found.not_after + EXPIRED_FOR:
            raise CallerUnauthenticatedError("the client certificate has expired")
        if not found.uris:
            raise CallerUnauthenticatedError("the client certificate has no URI SAN")
        if len(found.uris) > 1:
            raise CallerUnauthenticatedError("the client certificate has more than one URI SAN")
        [uri] = found.uris
        if not is_spiffe_id(uri):
            raise CallerUnauthenticatedError(
                "the URI SAN of the client certificate is no SPIFFE id of a workload"
            )
        return frozenset({uri})


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What of a certificate says who its owner is, and until when."""

    uris: tuple[str, ...]
    not_after: datetime


@lru_cache(maxsize=1024)  # it is the same one for every call of a connection
def _parse(certificate: bytes) -> _Parsed:
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        return _Parsed(_uri_sans(parsed), parsed.not_valid_after_utc)
    except Exception:  # noqa: BLE001  # cryptography's errors have no common base
        raise CallerUnauthenticatedError("the client certificate cannot be read") from None


def _uri_sans(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.value.get_values_for_type(x509.UniformResourceIdentifier))
