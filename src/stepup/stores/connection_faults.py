"""Why a connection to a store failed, as the network and TLS report it: for all kinds of store.

The texts contain no text of a driver, which could have a password (S11).
"""

import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence

_ERRNO = re.compile(r"\[Errno (\d+)\]")
_REASON = re.compile(r"[A-Z0-9_]+")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then each error that caused it, down to the first cause."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def certificate_problem(found: Sequence[BaseException]) -> str | None:
    """Why OpenSSL did not verify the certificate of the server; None if this did not happen."""
    for each in found:
        if isinstance(each, ssl.SSLCertVerificationError):
            return each.verify_message or "verification failed"
    return None


def tls_problem(found: Sequence[BaseException]) -> str | None:
    """OpenSSL's word for the handshake that failed; None if none failed."""
    for each in found:
        if isinstance(each, ssl.SSLError):
            return each.reason if _REASON.fullmatch(each.reason or "") else type(each).__name__
    return None


def network_problem(found: Sequence[BaseException]) -> str | None:
    """Why the server cannot be reached; None if the network reported nothing."""
    for each in found:
        if isinstance(each, socket.gaierror):
            return f"its host name is not known: {each.strerror}"
        if isinstance(each, TimeoutError):
            return "no answer in time"
        if isinstance(each, OSError) and (number := _number_of(each)):
            return os.strerror(number)  # asyncio's own text repeats the address
    return None


def _number_of(error: OSError) -> int | None:
    """The number of an error. asyncio joins the errors of several addresses in one text."""
    if error.errno is not None:
        return error.errno
    joined = _ERRNO.search(str(error))
    return int(joined[1]) if joined else None
