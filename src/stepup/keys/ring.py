"""The key ring: it seals secrets and reset codes, and has the MAC keys of receipts and requests.

A ring has several 32-byte keys, each with an id, so that a rotation can replace a key while seals
of it are in use. No key is used directly: HKDF-SHA256 derives one for each purpose.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, NoReturn, Self

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from prometheus_client import Counter

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.mac_keys import MacKeys
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import MAX_SECRET_BYTES, MIN_SECRET_BYTES, TotpSecret
from stepup.keys import public
from stepup.keys.file import KEY_BYTES, KeyFile, KeyRingError, check_id
from stepup.service.ports import SealBrokenError

__all__ = ["KEY_BYTES", "KeyRing", "KeyRingError"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_SECRET_SIZES = range(MIN_SECRET_BYTES, MAX_SECRET_BYTES + 1)
_KEY_SIZES = range(KEY_BYTES, KEY_BYTES + 1)
_log = structlog.get_logger(__name__)
_unreadable = Counter(
    "stepup_sealed_secret_unreadable",
    "Sealed secrets that did not open: the database was altered, or the ring lacks a key.",
)


class _Owner(NamedTuple):
    """The enrollment that a sealed secret belongs to: the seal opens for no other."""

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str


class KeyRing:
    """Implements the ports `Keys` and `HeadKeys`. Each key is derived once for each purpose.

    Args:
        primary: the id of the key for new seals and MACs.
        keys: 32 random bytes by id, oldest first.

    Raises:
        KeyRingError: an id or a key is malformed, or the primary one is missing.
    """

    def __init__(self, primary: str, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            check_id(key_id)
            if len(key) != KEY_BYTES:
                raise KeyRingError(f"keys.{key_id}: must be {KEY_BYTES} bytes")
        if primary not in keys:
            raise KeyRingError("primary: must be the id of a key of the ring")
        self.primary = primary
        self._keys = MappingProxyType(dict(keys))
        self._secrets = _Sealer(primary, keys, "seal")
        self._reset_codes = _Sealer(primary, keys, "reset code", "reset code")
        # From the oldest key, so that it stays the same when another key becomes primary.
        self._fingerprint_key = _derive(next(iter(keys.values())), "fingerprint")
        # Plain attributes: each check takes the keys of two of them.
        self.receipts = self._mac_keys("receipt")
        self.page_tokens = self._mac_keys("page token")
        self.stored_values = self._mac_keys("stored value")

    @classmethod
    def of(cls, file: KeyFile) -> Self:
        """Make the ring of a file's content. It may wait for the service that unwraps the keys.

        Raises:
            KeyRingError: the content makes no ring, or a key cannot be unwrapped.
        """
        return cls(file.primary, file.material())

    def __repr__(self) -> str:
        return f"KeyRing(primary={self.primary!r}, ids={sorted(self._keys)!r})"

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._keys

    def refresh_for(self, key_id: str) -> None:
        """Do nothing: this ring stays as it is."""

    def seal(
        self, secret: TotpSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> SealedSecret:
        """Encrypt with AES-256-GCM; the owner and the key's id are authenticated (S6)."""
        return self._secrets.close(secret.octets, _Owner(tenant_id, user_id, enrollment_id))

    def open(
        self, sealed: SealedSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> TotpSecret:
        owner = _Owner(tenant_id, user_id, enrollment_id)
        return TotpSecret(self._secrets.open(sealed, _SECRET_SIZES, owner))

    def record_reset_code(
        self, code: ResetCode, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> ResetCodeRecord:
        """The hash is HMAC-SHA-256 with a random key, which is sealed as a secret is (S8)."""
        key = secrets.token_bytes(KEY_BYTES)
        sealed = self._reset_codes.close(key, _Owner(tenant_id, user_id, enrollment_id))
        return ResetCodeRecord(tenant_id, user_id, enrollment_id, sealed, _digest(key, code))

    def is_reset_code(self, code: ResetCode, record: ResetCodeRecord) -> bool:
        return hmac.compare_digest(_digest(self._key_of(record), code), record.digest)

    def reseal_reset_code(
        self, record: ResetCodeRecord, to: tuple[TenantId, UserId] | None = None
    ) -> ResetCodeRecord:
        tenant_id, user_id = to or (record.tenant_id, record.user_id)
        key, owner = self._key_of(record), _Owner(tenant_id, user_id, record.enrollment_id)
        sealed = self._reset_codes.close(key, owner)
        return replace(record, tenant_id=tenant_id, user_id=user_id, sealed_key=sealed)

    def fingerprint(self, *parts: str) -> bytes:
        """Equal requests have equal hashes until the oldest key is retired."""
        return hmac.digest(self._fingerprint_key, _framed(*parts), "sha256")

    def sign_head(self, message: bytes) -> bytes:
        """Sign with the Ed25519 key of the primary key (S14)."""
        return self._head_key(self.primary).sign(message)

    def signature_problem(self, key_id: str, message: bytes, signature: bytes) -> str | None:
        try:
            key = self.head_public_key(key_id)
        except KeyRingError as error:
            return f"{error}: {key_id!a}"
        return public.signature_problem(key, signature, message)

    def head_public_key(self, key_id: str) -> bytes:
        """The public key that verifies the heads signed with a key: 32 bytes (RFC 8032).

        Raises:
            KeyRingError: the ring has no such key.
        """
        if key_id not in self._keys:
            raise KeyRingError("the key ring has no key with this id")
        return self._head_key(key_id).public_key().public_bytes_raw()

    def _key_of(self, record: ResetCodeRecord) -> bytes:
        owner = _Owner(record.tenant_id, record.user_id, record.enrollment_id)
        return self._reset_codes.open(record.sealed_key, _KEY_SIZES, owner)

    def _head_key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_derive(self._keys[key_id], "audit head"))

    def _mac_keys(self, purpose: str) -> MacKeys:
        derived = {key_id: _derive(key, purpose) for key_id, key in self._keys.items()}
        return MacKeys(self.primary, derived)


class _Sealer:
    """Seals with AES-256-GCM for one purpose, and opens with any key of the ring."""

    def __init__(
        self, primary: str, keys: Mapping[str, bytes], purpose: str, *bound_to: str
    ) -> None:
        self._primary = primary
        self._ciphers = {key_id: AESGCM(_derive(key, purpose)) for key_id, key in keys.items()}
        self._bound_to = bound_to

    def close(self, octets: bytes, owner: _Owner) -> SealedSecret:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = _framed(*owner, *self._bound_to, self._primary)
        sealed = self._ciphers[self._primary].encrypt(nonce, octets, bound_to)
        return SealedSecret(self._primary, nonce + sealed)

    def open(self, sealed: SealedSecret, sizes: range, owner: _Owner) -> bytes:
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            _refuse(owner, sealed, f"the ring has no key {sealed.key_id!r}, which sealed a secret")
        if len(sealed.ciphertext) - _NONCE_BYTES - _TAG_BYTES not in sizes:
            _refuse(owner, sealed, "a sealed secret has the wrong length")
        nonce, ciphertext = sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:]
        bound_to = _framed(*owner, *self._bound_to, sealed.key_id)
        try:
            return cipher.decrypt(nonce, ciphertext, bound_to)
        except InvalidTag:
            _refuse(owner, sealed, "a sealed secret was altered, or has another owner")


def _refuse(owner: _Owner, sealed: SealedSecret, problem: str) -> NoReturn:
    """Log, count and raise: the database was altered, or a key was retired too early."""
    _unreadable.inc()
    _log.error(
        "sealed_secret_unreadable",
        tenant=owner.tenant_id,
        user=owner.user_id,
        enrollment=owner.enrollment_id,
        key=sealed.key_id,
        problem=problem,
    )
    raise SealBrokenError(problem, *owner) from None


def _derive(key: bytes, purpose: str) -> bytes:
    """Derive the key of one purpose (RFC 5869)."""
    info = f"stepup {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _framed(*parts: str) -> bytes:
    """Join parts unambiguously: each follows its length."""
    octets = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in octets)


def _digest(key: bytes, code: ResetCode) -> bytes:
    return hmac.digest(key, code.octets, "sha256")
