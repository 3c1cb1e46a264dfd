"""The key ring: what seals secrets and reset codes, and recognises receipts and requests.

A ring holds several 32-byte keys by id, so that one can be replaced while what it sealed is still
in use. No key is used as it is: HKDF-SHA256 derives one for each purpose.
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
from stepup.domain.totp import SECRET_BYTES, TotpSecret
from stepup.keys.file import KEY_BYTES, KeyFile, KeyRingError, check_id
from stepup.service.ports import SealBrokenError

__all__ = ["KEY_BYTES", "KeyRing", "KeyRingError"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_log = structlog.get_logger(__name__)
_unreadable = Counter(
    "stepup_sealed_secret_unreadable",
    "Sealed secrets that did not open: somebody wrote to the database, or a key is gone.",
)


class _Place(NamedTuple):
    """Where a sealed secret belongs: it opens nowhere else."""

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str


class KeyRing:
    """The keys, each derived for its purposes once; implements the port `Keys`.

    Args:
        primary: the id of the key that new seals and MACs take.
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
        self._primary = primary
        self._keys = MappingProxyType(dict(keys))
        self._secrets = _Seals(primary, keys, "seal")
        self._reset_codes = _Seals(primary, keys, "reset code", "reset code")
        # Of the oldest key: it stays the same when another one becomes primary.
        self._fingerprint_key = _derive(next(iter(keys.values())), "fingerprint")
        self._receipts = self._mac_keys("receipt")
        self._page_tokens = self._mac_keys("page token")
        self._stored_values = self._mac_keys("stored value")

    @classmethod
    def of(cls, file: KeyFile) -> Self:
        """Make the ring of a file's content. It may wait for the service that unwraps the keys.

        Raises:
            KeyRingError: the content makes no ring, or a key cannot be unwrapped.
        """
        return cls(file.primary, file.material())

    def __repr__(self) -> str:
        return f"KeyRing(primary={self._primary!r}, ids={sorted(self._keys)!r})"

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._keys

    @property
    def primary(self) -> str:
        """The id of the key that new seals and MACs take."""
        return self._primary

    @property
    def receipts(self) -> MacKeys:
        """The MAC keys of retry receipts."""
        return self._receipts

    @property
    def page_tokens(self) -> MacKeys:
        """The MAC keys of page tokens."""
        return self._page_tokens

    @property
    def stored_values(self) -> MacKeys:
        """The MAC keys of elevations and recorded outcomes (S25)."""
        return self._stored_values

    def refresh_for(self, key_id: str) -> None:
        """Do nothing: this ring stays as it is."""

    def seal(
        self, secret: TotpSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> SealedSecret:
        """Encrypt a secret with AES-256-GCM, bound to where it belongs and to the key's id (S6)."""
        return self._secrets.close(secret.octets, _Place(tenant_id, user_id, enrollment_id))

    def open(
        self, sealed: SealedSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> TotpSecret:
        """Decrypt a secret (S6).

        Raises:
            SealBrokenError: it was altered, belongs elsewhere, or its key is not in the ring. The
                log says which.
        """
        place = _Place(tenant_id, user_id, enrollment_id)
        return TotpSecret(self._secrets.open(sealed, SECRET_BYTES, place))

    def record_reset_code(
        self, code: ResetCode, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> ResetCodeRecord:
        """What is stored of a reset code: its HMAC-SHA-256 under a key of its own (S8).

        That key is sealed as secrets are, so that it can be sealed anew without the code.
        """
        key = secrets.token_bytes(KEY_BYTES)
        sealed = self._reset_codes.close(key, _Place(tenant_id, user_id, enrollment_id))
        return ResetCodeRecord(tenant_id, user_id, enrollment_id, sealed, _digest(key, code))

    def is_reset_code(self, code: ResetCode, record: ResetCodeRecord) -> bool:
        """Whether this is the reset code on record, in constant time (S8).

        Raises:
            SealBrokenError: the record was altered, belongs elsewhere, or its key is not in the
                ring. The log says which.
        """
        return hmac.compare_digest(_digest(self._key_of(record), code), record.digest)

    def reseal_reset_code(
        self, record: ResetCodeRecord, to: tuple[TenantId, UserId] | None = None
    ) -> ResetCodeRecord:
        """The record under the primary key; it will belong to the user `to`.

        Raises:
            SealBrokenError: as `is_reset_code`.
        """
        tenant_id, user_id = to or (record.tenant_id, record.user_id)
        key, place = self._key_of(record), _Place(tenant_id, user_id, record.enrollment_id)
        sealed = self._reset_codes.close(key, place)
        return replace(record, tenant_id=tenant_id, user_id=user_id, sealed_key=sealed)

    def fingerprint(self, *parts: str) -> bytes:
        """HMAC-SHA-256 by which equal requests are recognised, while the oldest key stays."""
        return hmac.digest(self._fingerprint_key, _framed(*parts), "sha256")

    def sign_head(self, message: bytes) -> bytes:
        """Sign an exported audit head with the primary key's Ed25519 key: 64 bytes (S14)."""
        return self._head_key(self._primary).sign(message)

    def head_public_key(self, key_id: str) -> bytes:
        """The public key to what a key signs: 32 bytes (RFC 8032).

        Raises:
            KeyRingError: the key is not in the ring.
        """
        if key_id not in self._keys:
            raise KeyRingError("the key is not in the ring")
        return self._head_key(key_id).public_key().public_bytes_raw()

    def _key_of(self, record: ResetCodeRecord) -> bytes:
        return self._reset_codes.open(record.sealed_key, KEY_BYTES, _place_of(record))

    def _head_key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_derive(self._keys[key_id], "audit head"))

    def _mac_keys(self, purpose: str) -> MacKeys:
        derived = {key_id: _derive(key, purpose) for key_id, key in self._keys.items()}
        return MacKeys(self._primary, derived)


class _Seals:
    """AES-256-GCM for one purpose, under every key of a ring."""

    def __init__(
        self, primary: str, keys: Mapping[str, bytes], purpose: str, *bound_to: str
    ) -> None:
        self._primary = primary
        self._ciphers = {key_id: AESGCM(_derive(key, purpose)) for key_id, key in keys.items()}
        self._bound_to = bound_to

    def close(self, octets: bytes, place: _Place) -> SealedSecret:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = _framed(*place, *self._bound_to, self._primary)
        sealed = self._ciphers[self._primary].encrypt(nonce, octets, bound_to)
        return SealedSecret(self._primary, nonce + sealed)

    def open(self, sealed: SealedSecret, size: int, place: _Place) -> bytes:
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            _broken(place, sealed, f"the key {sealed.key_id!r} of a secret is not in the ring")
        if len(sealed.ciphertext) != _NONCE_BYTES + size + _TAG_BYTES:
            _broken(place, sealed, "a sealed secret does not have the right length")
        nonce, ciphertext = sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:]
        bound_to = _framed(*place, *self._bound_to, sealed.key_id)
        try:
            return cipher.decrypt(nonce, ciphertext, bound_to)
        except InvalidTag:
            _broken(place, sealed, "a sealed secret was altered or belongs elsewhere")


def _broken(place: _Place, sealed: SealedSecret, problem: str) -> NoReturn:
    """Alert: somebody wrote to the database, or a key was retired too early."""
    _unreadable.inc()
    _log.error(
        "sealed_secret_unreadable",
        tenant=place.tenant_id,
        user=place.user_id,
        enrollment=place.enrollment_id,
        key=sealed.key_id,
        problem=problem,
    )
    raise SealBrokenError(problem, *place) from None


def _place_of(record: ResetCodeRecord) -> _Place:
    return _Place(record.tenant_id, record.user_id, record.enrollment_id)


def _derive(key: bytes, purpose: str) -> bytes:
    """The key of one purpose (RFC 5869)."""
    info = f"stepup {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _framed(*parts: str) -> bytes:
    """Parts in a form from which they could be told apart again: each after its length."""
    octets = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in octets)


def _digest(key: bytes, code: ResetCode) -> bytes:
    return hmac.digest(key, code.octets, "sha256")
