"""The key ring: what seals secrets, and what recognises reset codes, receipts and requests.

A ring holds several 32-byte keys by id, so that one can be replaced while what it sealed is still
in use. No key is used as it is: HKDF-SHA256 derives one for each purpose. On disk the ring is a
JSON file that only its owner can read:

    {"primary": "<id>", "keys": {"<id>": "<32 bytes in base64>"}}
"""

import hmac
import json
import os
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.receipts import MacKeys
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import SECRET_BYTES, TotpSecret
from stepup.service.ports import SealBrokenError

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_SEALED_BYTES = _NONCE_BYTES + SECRET_BYTES + _TAG_BYTES
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: a receipt is split on dots
_OTHERS = 0o077


class KeyRingError(Exception):
    """A key ring cannot be used or stored. The message names file and field, never a key (S11)."""


class KeyRing:
    """The keys, each derived for its purposes once; implements the port `Keys`.

    Args:
        primary: the id of the key that new seals, digests and MACs take.
        keys: 32 random bytes by id.

    Raises:
        KeyRingError: an id or a key is malformed, or the primary one is missing.
    """

    def __init__(self, primary: str, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            _check_id(key_id)
            if len(key) != KEY_BYTES:
                raise KeyRingError(f"keys.{key_id}: must be {KEY_BYTES} bytes")
        if primary not in keys:
            raise KeyRingError("primary: must be the id of a key of the ring")
        self._primary = primary
        self._keys = MappingProxyType(dict(keys))
        self._seals = {key_id: AESGCM(_derive(key, "seal")) for key_id, key in keys.items()}
        self._reset_codes = self._mac_keys("reset code").keys
        self._fingerprints = self._mac_keys("fingerprint").keys
        self._receipts = self._mac_keys("receipt")
        self._page_tokens = self._mac_keys("page token")

    @classmethod
    def generate(cls) -> Self:
        """A ring with one fresh key from the system's random numbers."""
        key_id = secrets.token_hex(8)
        return cls(key_id, {key_id: secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ring from its file.

        Raises:
            KeyRingError: the file is missing, malformed, or others than its owner may read it.
        """
        try:
            return cls._read(path)
        except FileNotFoundError:
            raise KeyRingError(f"{path}: there is no such file") from None

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """Read a ring from its file, which is made, with a fresh key, if there is none.

        Of several processes that do so at once, all get the same ring.

        Raises:
            KeyRingError: as `load` and `write`.
        """
        try:
            return cls._read(path)
        except FileNotFoundError:
            pass
        ring = cls.generate()
        try:
            ring._create(path)  # noqa: SLF001 - its own class
        except FileExistsError:
            return cls.load(path)
        return ring

    def write(self, path: Path) -> None:
        """Store the ring in a new file of mode 0600, in full or not at all, and durably.

        Raises:
            KeyRingError: there is such a file, or it cannot be written.
        """
        try:
            self._create(path)
        except FileExistsError:
            raise KeyRingError(f"{path}: there is such a file; none is replaced") from None

    def __repr__(self) -> str:
        return f"KeyRing(primary={self._primary!r}, ids={sorted(self._keys)!r})"

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

    def seal(
        self, secret: TotpSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> SealedSecret:
        """Encrypt a secret with AES-256-GCM, bound to where it belongs and to the key's id (S6)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound_to = _framed(tenant_id, user_id, enrollment_id, self._primary)
        sealed = self._seals[self._primary].encrypt(nonce, secret.octets, bound_to)
        return SealedSecret(self._primary, nonce + sealed)

    def open(
        self, sealed: SealedSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> TotpSecret:
        """Decrypt a secret (S6).

        Raises:
            SealBrokenError: it was altered, belongs elsewhere, or its key is not in the ring.
        """
        seal = self._seals.get(sealed.key_id)
        if seal is None:
            raise SealBrokenError(f"the key {sealed.key_id!r} of a secret is not in the ring")
        if len(sealed.ciphertext) != _SEALED_BYTES:
            raise SealBrokenError("a sealed secret does not have the right length")
        nonce, ciphertext = sealed.ciphertext[:_NONCE_BYTES], sealed.ciphertext[_NONCE_BYTES:]
        bound_to = _framed(tenant_id, user_id, enrollment_id, sealed.key_id)
        try:
            return TotpSecret(seal.decrypt(nonce, ciphertext, bound_to))
        except InvalidTag:
            raise SealBrokenError("a sealed secret was altered or belongs elsewhere") from None

    def digest_reset_code(self, code: ResetCode, enrollment_id: str) -> tuple[str, bytes]:
        """The id of the primary key, and HMAC-SHA-256 of code and enrollment: 32 bytes (S8)."""
        return self._primary, _digest(self._reset_codes[self._primary], code, enrollment_id)

    def is_reset_code(self, code: ResetCode, record: ResetCodeRecord) -> bool:
        """Whether this is the reset code on record, in constant time (S8).

        None is when its key is not in the ring.
        """
        key = self._reset_codes.get(record.key_id)
        if key is None:
            return False
        return hmac.compare_digest(_digest(key, code, record.enrollment_id), record.digest)

    def fingerprint(self, *parts: str) -> bytes:
        """HMAC-SHA-256 by which equal requests are recognised, while the primary key stays."""
        return hmac.digest(self._fingerprints[self._primary], _framed(*parts), "sha256")

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

    def _head_key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(_derive(self._keys[key_id], "audit head"))

    def _mac_keys(self, purpose: str) -> MacKeys:
        derived = {key_id: _derive(key, purpose) for key_id, key in self._keys.items()}
        return MacKeys(self._primary, MappingProxyType(derived))

    @classmethod
    def _read(cls, path: Path) -> Self:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise KeyRingError(f"{path}: cannot be read: {error.strerror}") from None
        if mode & _OTHERS:
            raise KeyRingError(f"{path}: others than its owner may read it; set its mode to 0600")
        try:
            return cls(**_parsed(text))
        except KeyRingError as error:
            raise KeyRingError(f"{path}: {error}") from None

    def _create(self, path: Path) -> None:
        """Bring the file into being with all that is in it.

        Raises:
            FileExistsError: there is such a file.
            KeyRingError: it cannot be written.
        """
        keys = {key_id: b64encode(key).decode() for key_id, key in self._keys.items()}
        text = json.dumps({"primary": self._primary, "keys": keys}, indent=2) + "\n"
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            try:
                _write_new(draft, text.encode())
                # Unlike a rename, a link never takes the place of a file that is there.
                os.link(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            _sync_directory(path.parent)
        except FileExistsError:
            raise
        except OSError as error:
            raise KeyRingError(f"{path}: cannot be written: {error.strerror}") from None


def _derive(key: bytes, purpose: str) -> bytes:
    """The key of one purpose (RFC 5869)."""
    info = f"stepup {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


def _framed(*parts: str | bytes) -> bytes:
    """Parts in a form from which they could be told apart again: each after its length."""
    octets = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in octets)


def _digest(key: bytes, code: ResetCode, enrollment_id: str) -> bytes:
    return hmac.digest(key, _framed(code.octets, enrollment_id), "sha256")


def _parsed(text: bytes) -> dict[str, Any]:
    """The file's fields; no message and no chained error has a part of the text."""
    try:
        document = json.loads(text, object_pairs_hook=_without_repetition)
    except ValueError:
        raise KeyRingError("is no JSON") from None
    match document:
        case {"primary": str(primary), "keys": {**encoded}, **unknown} if not unknown:
            return {"primary": primary, "keys": {k: _decoded(k, v) for k, v in encoded.items()}}
    raise KeyRingError('must have the fields "primary", a string, and "keys", an object, only')


def _check_id(key_id: str) -> None:
    # The id is not named: in a file with id and key the wrong way round it would be the key.
    if not _KEY_ID.fullmatch(key_id):
        raise KeyRingError("keys: an id must be 1 to 64 characters of A-Z a-z 0-9 _ -")


def _decoded(key_id: Any, encoded: Any) -> bytes:
    _check_id(key_id)
    try:
        return b64decode(encoded, validate=True)
    except (TypeError, ValueError):
        raise KeyRingError(f"keys.{key_id}: must be {KEY_BYTES} bytes in base64") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise KeyRingError("has a field twice")
    return fields


def _write_new(path: Path, octets: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
