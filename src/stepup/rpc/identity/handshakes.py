"""TLS handshakes that failed: from which address, and why (S15).

gRPC ends such a connection before there is a call. It reports the reason, with the address, only in
the log of its core (`GRPC_TRACE=handshaker`), whose format grpcio may change. A record that cannot
be parsed is not counted, and no text of a record gets into our log.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import structlog
from prometheus_client import Counter

from stepup.rpc.engine.waiting import network_of
from stepup.service.ports import Clock

LOG_SECONDS: Final = 60.0
"""The length of a period, which has one line at most about a network and a reason."""
MAX_LINES: Final = 200
"""How many lines a period may have, for all networks together."""
_MAX_RECORD_BYTES: Final = 16 * 1024

_RECORD: Final = re.compile(rb"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ")
_FAILURE: Final = re.compile(
    rb"handshaker\.cc:\d+\] CallNextHandshakerLocked: error=(?!OK)(?P<error>.*)"
    rb"\sshutdown=(?:true|false) index=\d+, args=\{(?P<arguments>.*)\}",
    re.DOTALL,
)
_PEER: Final = re.compile(rb"grpc\.internal\.endpoint_peer_address=([A-Za-z0-9%:.\[\]]+)")
_OF_A_CLIENT: Final = b"grpc.client_channel_factory="

_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_handshake_failures",
    "TLS handshakes that failed, by the reason as far as gRPC reports it.",
    ["reason"],
)


class Cause(StrEnum):
    """Why a handshake failed. The values are labels of the metric."""

    MISSING = "certificate_missing"
    EXPIRED = "certificate_expired"
    NOT_YET_VALID = "certificate_not_yet_valid"
    FOREIGN = "certificate_foreign"
    NOT_ACCEPTED = "certificate_not_accepted"
    NOT_TLS = "not_tls"
    VERSION = "tls_version"
    NOT_HTTP2 = "not_http2"
    CLOSED = "connection_closed"
    OTHER = "other"


_WORDS: Final[Mapping[bytes, Cause]] = MappingProxyType(
    {
        b"PEER_DID_NOT_RETURN_A_CERTIFICATE": Cause.MISSING,
        b"CERTIFICATE_VERIFY_FAILED: certificate has expired": Cause.EXPIRED,
        b"CERTIFICATE_VERIFY_FAILED: certificate is not yet valid": Cause.NOT_YET_VALID,
        b"CERTIFICATE_VERIFY_FAILED: unable to get": Cause.FOREIGN,
        b"CERTIFICATE_VERIFY_FAILED: self signed": Cause.FOREIGN,
        b"CERTIFICATE_VERIFY_FAILED: certificate signature failure": Cause.FOREIGN,
        b"CERTIFICATE_VERIFY_FAILED": Cause.NOT_ACCEPTED,
        b"HTTP_REQUEST": Cause.NOT_TLS,
        b"WRONG_VERSION_NUMBER": Cause.NOT_TLS,
        b"UNSUPPORTED_PROTOCOL": Cause.VERSION,
        b"ALPN": Cause.NOT_HTTP2,
        b"Handshake read failed": Cause.CLOSED,
    }
)
"""The cause for a text in a record. The first text that the record contains counts."""

_EXPLANATIONS: Final[Mapping[Cause, str]] = MappingProxyType(
    {
        Cause.MISSING: "the client sent no certificate: give it one of an authority in"
        " tls.client_ca",
        Cause.EXPIRED: "the client's certificate has expired: renew it",
        Cause.NOT_YET_VALID: "the client's certificate is not in force yet: check its dates, and"
        " the clock of this machine",
        Cause.FOREIGN: "no authority in tls.client_ca has issued the client's certificate: issue"
        " another, or add its authority; the client must also send intermediate authorities",
        Cause.NOT_ACCEPTED: "the client's certificate is not for clients, or breaks another rule:"
        " check its key usage and its chain",
        Cause.NOT_TLS: "the client does not speak TLS: have it use TLS",
        Cause.VERSION: "the client speaks only a version of TLS before 1.2: update it",
        Cause.NOT_HTTP2: "the client does not offer HTTP/2 (ALPN h2): gRPC needs it",
        Cause.OTHER: "the client's TLS does not fit: set GRPC_VERBOSITY=INFO for grpcio's reason",
    }
)


@dataclass(frozen=True, slots=True)
class HandshakeFailure:
    """A handshake that failed.

    `peer` is the address of the client as gRPC writes it; empty if the record lacks it.
    """

    peer: str
    reason: Cause


class HandshakeFailures:
    """Reads the log of grpcio's core; counts and logs the failed handshakes of clients.

    Anyone who reaches the port can cause failures. So in each period of LOG_SECONDS only the first
    failure of a network and a reason is logged, and `MAX_LINES` lines at most. A connection that
    its client closed is only counted: load balancers try a port in this way.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unread = b""
        self._logged: set[tuple[str, Cause]] = set()
        self._logged_since = float("-inf")

    def read(self, octets: bytes) -> None:
        """Read the next octets of the log. A record is complete when the next record begins."""
        *records, unread = _RECORD.split(self._unread + octets)
        self._unread = unread[-_MAX_RECORD_BYTES:]
        for record in records:
            failure = _failure_in(record)
            if failure is not None:
                _failures.labels(failure.reason).inc()
                self._log(failure)

    def _log(self, failure: HandshakeFailure) -> None:
        now = self._clock.monotonic()
        if now - self._logged_since >= LOG_SECONDS:
            self._logged.clear()
            self._logged_since = now
        line = network_of(failure.peer), failure.reason
        if failure.reason is Cause.CLOSED or line in self._logged:
            return
        if len(self._logged) < MAX_LINES:
            self._logged.add(line)
            _log.warning(
                "handshake_failed",
                peer=failure.peer or None,
                reason=failure.reason,
                explanation=_EXPLANATIONS[failure.reason],
            )


def _failure_in(record: bytes) -> HandshakeFailure | None:
    """The failure that a record reports; None for other records, and for a client of our own."""
    found = _FAILURE.search(record)
    if found is None or _OF_A_CLIENT in found["arguments"]:
        return None
    peer = _PEER.search(found["arguments"])
    words = (reason for word, reason in _WORDS.items() if word in found["error"])
    return HandshakeFailure(peer[1].decode() if peer else "", next(words, Cause.OTHER))
