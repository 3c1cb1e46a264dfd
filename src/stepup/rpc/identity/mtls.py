"""Identifies callers by the SPIFFE id in their client certificate (S15, S29)."""

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
"""How long after its expiry a certificate still counts on an open connection."""

# The leaf. gRPC's own properties of the SANs are unsafe: `peer_uri` is a C string that ends at a
# NUL, so that it reads `spiffe://acme/soar\0/other` as `spiffe://acme/soar` (S29).
_CERTIFICATE = "x509_pem_cert"

# SPIFFE-ID §2: no user, port, query or fragment. X509-SVID §2: the id of a workload has a path.
_MAX_SPIFFE_ID_BYTES = 2048
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")


def is_spiffe_id(uri: str) -> bool:
    """Whether the whole URI is the SPIFFE id of a workload."""
    return len(uri) <= _MAX_SPIFFE_ID_BYTES and _SPIFFE_ID.fullmatch(uri) is not None


class CertificateIdentification:
    """Reads the client certificate that the TLS handshake has verified.

    The handshake checks that a trusted authority has issued the certificate, and that it is in
    force. But when a client resumes a session, gRPC does not verify the certificate again, for
    days. So this class also checks the expiry. Connections that were opened before the expiry stay
    open, so a certificate counts for `EXPIRED_FOR` longer.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def identify(self, invocation: Invocation) -> frozenset[str]:
        """The SPIFFE id of the certificate.

        Raises:
            CallerUnauthenticatedError: the certificate is missing or malformed, it expired more
                than `EXPIRED_FOR` ago, it does not have exactly one URI SAN (X509-SVID §2), or that
                SAN is not the SPIFFE id of a workload.
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
                "the URI SAN of the client certificate is not the SPIFFE id of a workload"
            )
        return frozenset({uri})


@dataclass(frozen=True, slots=True)
class _Parsed:
    """The names and the expiry of a certificate."""

    uris: tuple[str, ...]
    not_after: datetime


@lru_cache(maxsize=1024)  # all calls of a connection have the same certificate
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
