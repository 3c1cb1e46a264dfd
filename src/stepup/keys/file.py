"""The content of a key ring's file, and how a rotation changes it.

The file is JSON:

    {
      "primary": "<id>",
      "wrapped_by": "vault:<mount>/<transit key>",
      "keys": {
        "<id>": {"key": "<32 bytes in base64>", "created_at": "2026-03-01T12:00:00+00:00"},
        "<id>": {"wrapped": "vault:v1:...", "created_at": "...", "demoted_at": "..."}
      }
    }

A key is stored in plaintext, or wrapped by the key management service that `wrapped_by` names. A
key that is not primary was demoted, or is staged: a rotation will make it primary.
"""

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

from stepup.keys.kms import KeyWrapperError, VaultTransit, wrapper_named
from stepup.system.json_texts import strict_json

KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: a receipt is split on dots
_NONE_KNOWN: Mapping[str, bytes] = MappingProxyType({})


class KeyRingError(Exception):
    """A key ring cannot be used or stored. The message names file and field, never a key (S11)."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of the file, either in plaintext (`key`) or wrapped. Its repr shows neither (S11)."""

    created_at: datetime
    key: bytes | None = field(default=None, repr=False)
    wrapped: str | None = field(default=None, repr=False)
    demoted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The content of a key ring's file. `KeyRing` checks that it makes a ring."""

    primary: str
    keys: Mapping[str, KeyEntry]
    wrapped_by: str | None = None

    @classmethod
    def generated(cls, now: datetime, wrapped_by: str | None = None) -> Self:
        """Make a ring of one random key, in plaintext unless a service wraps the keys.

        Raises:
            KeyRingError: the service is unknown, or did not wrap the key.
        """
        key_id, entry = _new_key(now, wrapped_by)
        return cls(key_id, {key_id: entry}, wrapped_by)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Parse the JSON of a key ring.

        Raises:
            KeyRingError: it is malformed. Neither the message nor a chained error has a part of
                the text (S11).
        """
        try:
            document = strict_json(text)
        except ValueError as error:
            raise KeyRingError(str(error)) from None
        match document:
            case {"primary": str(primary), "keys": {**entries}, **others}:
                wrapped_by = others.pop("wrapped_by", None)
                if not others and isinstance(wrapped_by, str | None):
                    keys = dict(_entry(key_id, entry) for key_id, entry in entries.items())
                    return cls(primary, keys, wrapped_by)
        raise KeyRingError(
            'must have the fields "primary", a string, "keys", an object, and at most'
            ' "wrapped_by", a string'
        )

    @property
    def text(self) -> str:
        """The JSON of the file: secret, unless all keys are wrapped."""
        document = {
            "primary": self.primary,
            "wrapped_by": self.wrapped_by,
            "keys": {key_id: _entry_document(entry) for key_id, entry in self.keys.items()},
        }
        return json.dumps(_without_none(document), indent=2) + "\n"

    def material(self, known: Mapping[str, bytes] = _NONE_KNOWN) -> dict[str, bytes]:
        """The keys in plaintext by id, oldest first. It may wait for the service that unwraps.

        Args:
            known: keys that were unwrapped before, by their wrapped form.

        Raises:
            KeyRingError: a key cannot be unwrapped.
        """
        unwrap = _Unwrapping(self.wrapped_by, known)
        by_age = sorted(self.keys.items(), key=lambda item: (item[1].created_at, item[0]))
        return {key_id: unwrap(key_id, entry) for key_id, entry in by_age}

    @property
    def staged(self) -> str | None:
        """The id of the staged key, if there is one."""
        staged = (
            key_id
            for key_id, entry in self.keys.items()
            if key_id != self.primary and entry.demoted_at is None
        )
        return next(staged, None)

    def staging(self, now: datetime) -> "KeyFile":
        """A copy with a staged key: a new random key, unless one is staged already.

        Raises:
            KeyRingError: the key management service did not wrap the key.
        """
        if self.staged is not None:
            return self
        key_id, entry = _new_key(now, self.wrapped_by)
        return replace(self, keys={**self.keys, key_id: entry})

    def promoting(self, key_id: str, now: datetime) -> "KeyFile":
        """A copy in which this key is primary, and the primary key before it is demoted.

        Raises:
            KeyRingError: the ring has no such key.
        """
        self._demand_key(key_id)
        if key_id == self.primary:
            return self
        promoted = replace(self.keys[key_id], demoted_at=None)
        demoted = replace(self.keys[self.primary], demoted_at=now)
        return replace(
            self, primary=key_id, keys={**self.keys, key_id: promoted, self.primary: demoted}
        )

    def without(self, key_id: str) -> "KeyFile":
        """A copy without this key.

        Raises:
            KeyRingError: the ring has no such key, or the key is primary.
        """
        self._demand_key(key_id)
        if key_id == self.primary:
            raise KeyRingError(f"{key_id} is the primary key: run `stepup keys rotate` first")
        return replace(self, keys={id_: key for id_, key in self.keys.items() if id_ != key_id})

    def _demand_key(self, key_id: str) -> None:
        # The message leaves the id out: an operator may have pasted a key (S11).
        if key_id not in self.keys:
            raise KeyRingError("the ring has no key with this id: see `stepup keys status`")


class _Unwrapping:
    """Unwraps the keys of one file, and asks the service only for those not known."""

    def __init__(self, wrapped_by: str | None, known: Mapping[str, bytes]) -> None:
        self._wrapped_by = wrapped_by
        self._known = known
        self._wrapper: VaultTransit | None = None

    def __call__(self, key_id: str, entry: KeyEntry) -> bytes:
        if entry.key is not None:
            return entry.key
        wrapped = entry.wrapped or ""
        if wrapped in self._known:
            return self._known[wrapped]
        try:
            self._wrapper = self._wrapper or wrapper_named(self._wrapped_by)
            return self._wrapper.unwrap(wrapped)
        except KeyWrapperError as error:
            raise KeyRingError(f"keys.{key_id}: cannot be unwrapped: {error}") from error


def check_id(key_id: str) -> None:
    """Check the form of a key's id.

    Raises:
        KeyRingError: the form is wrong. The message leaves the id out: where an operator has
            swapped id and key, the id is the key (S11).
    """
    if not _KEY_ID.fullmatch(key_id):
        raise KeyRingError("keys: an id must be 1 to 64 characters of A-Z a-z 0-9 _ -")


def _new_key(now: datetime, wrapped_by: str | None) -> tuple[str, KeyEntry]:
    key_id, key = secrets.token_hex(8), secrets.token_bytes(KEY_BYTES)
    if wrapped_by is None:
        return key_id, KeyEntry(now, key)
    try:
        return key_id, KeyEntry(now, wrapped=wrapper_named(wrapped_by).wrap(key))
    except KeyWrapperError as error:
        raise KeyRingError(f"a new key cannot be wrapped: {error}") from error


def _entry(key_id: Any, document: Any) -> tuple[str, KeyEntry]:
    check_id(key_id)
    match document:
        case {"created_at": str(created_at), **others}:
            demoted_at = others.pop("demoted_at", None)
            times = _time(key_id, created_at), _time(key_id, demoted_at) if demoted_at else None
            match others:
                case {"key": str(key), **more} if not more:
                    return key_id, KeyEntry(times[0], _decoded(key_id, key), demoted_at=times[1])
                case {"wrapped": str(wrapped), **more} if not more:
                    return key_id, KeyEntry(times[0], wrapped=wrapped, demoted_at=times[1])
    raise KeyRingError(
        f'keys.{key_id}: must have the fields "created_at", "key" or "wrapped", and at most'
        ' "demoted_at", all strings'
    )


def _entry_document(entry: KeyEntry) -> dict[str, str]:
    return _without_none(
        {
            "key": b64encode(entry.key).decode() if entry.key is not None else None,
            "wrapped": entry.wrapped,
            "created_at": entry.created_at.isoformat(),
            "demoted_at": entry.demoted_at.isoformat() if entry.demoted_at else None,
        }
    )


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _decoded(key_id: str, encoded: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError:
        raise KeyRingError(f"keys.{key_id}: must be {KEY_BYTES} bytes in base64") from None


def _time(key_id: str, text: Any) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        instant = None
    if instant is None or instant.tzinfo is None:
        raise KeyRingError(f"keys.{key_id}: a time must be ISO 8601 with a zone") from None
    return instant.astimezone(UTC)
