"""The public keys with which auditors verify exported audit heads (S14)."""

from base64 import b64decode
from binascii import Error as Base64Error

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)


class PublicKeyError(Exception):
    """The text is not a public key of audit heads."""


def to_pem(public_key: bytes) -> str:
    """Write a public key of 32 bytes as PEM (RFC 8410)."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def parse(text: bytes) -> bytes:
    """Read the 32 bytes of a public key from PEM or from plain base64.

    Raises:
        PublicKeyError: the text is neither, or another kind of key.
    """
    try:
        if b"-----BEGIN" not in text:
            return Ed25519PublicKey.from_public_bytes(
                b64decode(text.strip(), validate=True)
            ).public_bytes_raw()
        key = load_pem_public_key(text)
    except (Base64Error, ValueError, UnsupportedAlgorithm):
        raise PublicKeyError("must be an Ed25519 public key, in PEM or base64") from None
    if not isinstance(key, Ed25519PublicKey):
        raise PublicKeyError("must be an Ed25519 public key, not another kind of key")
    return key.public_bytes_raw()


def signature_problem(public_key: bytes, signature: bytes, message: bytes) -> str | None:
    """What is wrong with a signature; None if this key made it of this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return "the signature does not match"
    return None
