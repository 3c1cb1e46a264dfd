"""A caller's certificate: its one URI SAN, a SPIFFE id, is the identity (S15)."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.call import Invocation
from stepup.rpc.identity.server_credentials import CONNECTION_AGE
from stepup.service.ports import Clock

EXPIRED_FOR: Final = 1.1 * CONNECTION_AGE
"""From when after its end a certificate does not count, however its connection came about."""

# grpcio gives the SANs by type. `x509_subject_alternative_name` mixes them, and a DNS name there
# can read like a URI; `peer_spiffe_id` is absent when there are two ids as when there is none.
_URI_SANS = "peer_uri"
_CERTIFICATE = "x509_pem_cert"

# SPIFFE-ID §2: no user, port, query or fragment. X509-SVID §2: a workload's id has a path.
_MAX_SPIFFE_ID_BYTES = 2048
_SPIFFE_ID = re.compile(rb"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)+")


def is_spiffe_id(uri: bytes) -> bool:
    """Whether it is the SPIFFE id of a workload."""
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
            CallerUnauthenticatedError: there is no certificate, it expired long ago, or there is
                not exactly one URI SAN in it (X509-SVID §2), or that is no SPIFFE id of a workload.
        """
        context = invocation.auth_context()
        certificate = b"".join(context.get(_CERTIFICATE, ()))
        if not certificate:
            raise CallerUnauthenticatedError("a client certificate is required")
        if self._clock.now() >= _not_after(certificate) + EXPIRED_FOR:
            raise CallerUnauthenticatedError("the client certificate has expired")
        uris = tuple(context.get(_URI_SANS, ()))
        if not uris:
            raise CallerUnauthenticatedError("the client certificate has no URI SAN")
        if len(uris) > 1:
            raise CallerUnauthenticatedError("the client certificate has more than one URI SAN")
        [uri] = uris
        if not is_spiffe_id(uri):
            raise CallerUnauthenticatedError(
                "the URI SAN of the client certificate is no SPIFFE id of a workload"
            )
        return frozenset({uri.decode()})


@lru_cache(maxsize=1024)  # it is the same one for every call of a connection
def _not_after(certificate: bytes) -> datetime:
    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        raise CallerUnauthenticatedError("the client certificate cannot be read") from None
