"""PEM files (RFC 7468), read by one parser for all libraries that use their content.

Parsers disagree on which blocks a file has: a byte-order mark or indentation hides a block from
gRPC and OpenSSL, but not from cryptography. A library that reads the file itself could therefore
silently lose an authority, or keep an earlier one. Give libraries the parsed content, written with
`to_pem` or `key_to_pem`.
"""

import re
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

MAX_FILE_BYTES: Final = 1024 * 1024
# Looser than the parser, which ignores a block whose label or dashes it does not know.
_CERTIFICATE: Final = re.compile(rb"-\s*BEGIN[A-Z0-9 ]* CERTIFICATE\s*-", re.IGNORECASE)
_PLAIN_BEGIN: Final = re.compile(rb"^-----BEGIN [A-Z0-9 ]*-----\s*$", re.MULTILINE)
_PRIVATE_KEY: Final = re.compile(rb"-\s*BEGIN[A-Z0-9 ]* PRIVATE KEY\s*-", re.IGNORECASE)


class PemError(Exception):
    """A file cannot be used. The message completes "<file> ..." and has no content of it (S11)."""


def read(path: Path) -> bytes:
    """Read a file.

    Raises:
        PemError: the file cannot be read, or has more than 1 MiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PemError(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise PemError("is too large")
    return content


def parse_certificates(content: bytes) -> list[x509.Certificate]:
    """All certificates, at least one, in their order; other text and blocks are ignored.

    Raises:
        PemError: there is no certificate, or a block begins that is not a certificate in full:
            half a bundle would shut callers out, or believe a server of another authority.
    """
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion):
        raise PemError("holds no certificates in PEM") from None
    if len(certificates) != len(_CERTIFICATE.findall(content)):
        raise PemError("holds a certificate that is cut off or of another form")
    return certificates


def parse_private_key(content: bytes) -> PrivateKeyTypes:
    """The one private key; other text and blocks are ignored.

    Raises:
        PemError: there is no key or more than one, or it is encrypted or of an unknown kind.
    """
    if len(_PRIVATE_KEY.findall(content)) > 1:
        raise PemError("holds more than one private key")
    try:
        return load_pem_private_key(content, password=None)
    except TypeError:
        raise PemError("is encrypted: store the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PemError("is not a private key in PEM") from None


def check_plain_file(path: str, parse: Callable[[bytes], object]) -> None:
    """Demand that OpenSSL, where it reads a file itself, sees each block that `parse` sees.

    Raises:
        PemError: as `read` and `parse`; or a block does not begin on a line of its own.
    """
    content = read(Path(path))
    parse(content)
    begun = len(_CERTIFICATE.findall(content)) + len(_PRIVATE_KEY.findall(content))
    plain = _PLAIN_BEGIN.findall(content)
    if begun != sum(b"CERTIFICATE-" in line or b"PRIVATE KEY-" in line for line in plain):
        raise PemError(
            "holds a block that does not begin on a line of its own, such as after a byte-order"
            " mark or indentation"
        )


def to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """The certificates in the form that every parser reads."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def key_to_pem(key: PrivateKeyTypes) -> bytes:
    """The key in the form that every parser reads: PKCS #8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def context_trusting(content: bytes) -> ssl.SSLContext:
    """A client's context that verifies servers by the authorities of a file, and by no others.

    Raises:
        PemError: see `parse_certificates`; or OpenSSL does not take one of them.
    """
    # Not `create_default_context`, which takes no authorities for the system's.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = parse_certificates(content)
    try:
        context.load_verify_locations(cadata=to_pem(authorities).decode())
    except ssl.SSLError:
        raise PemError("holds a certificate that OpenSSL does not take") from None
    return context
