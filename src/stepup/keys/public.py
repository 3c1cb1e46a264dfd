"""The public keys of exported audit heads, as auditors keep them (S14)."""

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
    """This is no public key that a head could be checked with."""


def to_pem(public_key: bytes) -> str:
    """A public key of 32 bytes as PEM (RFC 8410)."""
    key = Ed25519PublicKey.from_public_bytes(public_key)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def parse(text: bytes) -> bytes:
    """The 32 bytes of a public key in PEM, or in base64 without more.

    Raises:
        PublicKeyError: it is neither.
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


def has_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is the key's, over this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True
