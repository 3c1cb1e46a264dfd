"""The file of a key ring: JSON that only its owner can read, replaced in full or not at all.

    {
      "primary": "<id>",
      "wrapped_by": "vault:<mount>/<transit key>",
      "keys": {
        "<id>": {"key": "<32 bytes in base64>", "created_at": "2026-03-01T12:00:00+00:00"},
        "<id>": {"wrapped": "vault:v1:...", "created_at": "...", "demoted_at": "..."}
      }
    }

A key is there as it is, or wrapped by a key management service, which `wrapped_by` names then. One
that is not primary was demoted, or waits to become primary.
"""

import json
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from stepup.keys.kms import KeyWrapper, KeyWrapperError, wrapper_named
from stepup.system import private_files

KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: a receipt is split on dots
_NONE_KNOWN: Mapping[str, bytes] = MappingProxyType({})


class KeyRingError(Exception):
    """A key ring cannot be used or stored. The message names file and field, never a key (S11)."""


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of the file: `key` as it is, or `wrapped`. Its repr shows neither (S11)."""

    created_at: datetime
    key: bytes | None = field(default=None, repr=False)
    wrapped: str | None = field(default=None, repr=False)
    demoted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What is in the file. It is valid as a ring only when `KeyRing` takes it."""

    primary: str
    keys: Mapping[str, KeyEntry]
    wrapped_by: str | None = None

    @classmethod
    def generated(cls, now: datetime, wrapped_by: str | None = None) -> Self:
        """A file with one fresh key.

        Args:
            now: when that is.
            wrapped_by: the key management service that wraps its keys, None for none.

        Raises:
            KeyRingError: there is no such service, or it does not wrap.
        """
        key_id, entry = _fresh(now, wrapped_by)
        return cls(key_id, {key_id: entry}, wrapped_by)

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read what a file says.

        Raises:
            KeyRingError: it is malformed. No message and no chained error has a part of the text.
        """
        try:
            document = json.loads(text, object_pairs_hook=_without_repetition)
        except ValueError:
            raise KeyRingError("is no JSON") from None
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

    @classmethod
    def read(cls, path: Path, *, group_readable: bool = False) -> Self:
        """Read the file.

        Raises:
            FileNotFoundError: there is none.
            KeyRingError: it cannot be read, is malformed, or others may read it.
        """
        try:
            return cls.parse(private_files.read(path, group_readable=group_readable))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise KeyRingError(f"{path}: cannot be read: {error.strerror}") from None
        except (private_files.NotPrivateError, KeyRingError) as error:
            raise KeyRingError(f"{path}: {error}") from None

    def create(self, path: Path) -> None:
        """Store it in a new file of mode 0600, in full or not at all, and durably.

        Raises:
            FileExistsError: there is such a file.
            KeyRingError: it cannot be written.
        """
        try:
            private_files.create(path, self.text.encode())
        except FileExistsError:
            raise
        except OSError as error:
            raise KeyRingError(f"{path}: cannot be written: {error.strerror}") from None

    @property
    def text(self) -> str:
        """The file's JSON: secret, unless all keys are wrapped."""
        document = {
            "primary": self.primary,
            "wrapped_by": self.wrapped_by,
            "keys": {key_id: _document(entry) for key_id, entry in self.keys.items()},
        }
        return json.dumps(_without_none(document), indent=2) + "\n"

    def material(self, known: Mapping[str, bytes] = _NONE_KNOWN) -> dict[str, bytes]:
        """The keys by id, oldest first, unwrapped by the service where they are wrapped.

        Args:
            known: what was unwrapped before, by its wrapped form.

        Raises:
            KeyRingError: one cannot be unwrapped.
        """
        unwrap = _Unwrapping(self.wrapped_by, known)
        by_age = sorted(self.keys.items(), key=lambda item: (item[1].created_at, item[0]))
        return {key_id: unwrap(key_id, entry) for key_id, entry in by_age}

    @property
    def staged(self) -> str | None:
        """The id of the key that waits to become primary, if one does."""
        waiting = (
            key_id
            for key_id, entry in self.keys.items()
            if key_id != self.primary and entry.demoted_at is None
        )
        return next(waiting, None)

    def staging(self, now: datetime) -> "KeyFile":
        """The file with a key that waits to become primary: a fresh one, if none does.

        Raises:
            KeyRingError: the key management service does not wrap it.
        """
        if self.staged is not None:
            return self
        key_id, entry = _fresh(now, self.wrapped_by)
        return replace(self, keys={**self.keys, key_id: entry})

    def promoting(self, key_id: str, now: datetime) -> "KeyFile":
        """The file with another primary key.

        Raises:
            KeyRingError: it has no such key.
        """
        self._demand(key_id)
        if key_id == self.primary:
            return self
        promoted = replace(self.keys[key_id], demoted_at=None)
        demoted = replace(self.keys[self.primary], demoted_at=now)
        return replace(
            self, primary=key_id, keys={**self.keys, key_id: promoted, self.primary: demoted}
        )

    def without(self, key_id: str) -> "KeyFile":
        """The file without a key, which must not be the primary one.

        Raises:
            KeyRingError: it is, or there is no such key.
        """
        self._demand(key_id)
        if key_id == self.primary:
            raise KeyRingError(f"{key_id} is the primary key; rotate first")
        return replace(self, keys={id_: key for id_, key in self.keys.items() if id_ != key_id})

    def _demand(self, key_id: str) -> None:
        # The id is not repeated: somebody may have pasted a key.
        if key_id not in self.keys:
            raise KeyRingError("there is no key with this id in the ring")


def edit(path: Path, change: Callable[[KeyFile], KeyFile], *, group_readable: bool) -> KeyFile:
    """Change the file, atomically and durably; of two edits at once, one waits.

    Returns:
        What is in it now.

    Raises:
        KeyRingError: it cannot be read or written, or `change` does not go.
    """
    try:
        with private_files.locked(path):
            before = KeyFile.read(path, group_readable=group_readable)
            after = change(before)
            if after != before:
                private_files.replace(path, after.text.encode())
            return after
    except OSError as error:
        raise KeyRingError(f"{path}: cannot be changed: {error.strerror}") from None


class _Unwrapping:
    """Unwraps the keys of one file; the service is asked only for what is not known."""

    def __init__(self, wrapped_by: str | None, known: Mapping[str, bytes]) -> None:
        self._wrapped_by = wrapped_by
        self._known = known
        self._wrapper: KeyWrapper | None = None

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
    """Make sure that an id is one.

    Raises:
        KeyRingError: it is not. It is not named: in a file with id and key the wrong way round it
            would be the key.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise KeyRingError("keys: an id must be 1 to 64 characters of A-Z a-z 0-9 _ -")


def _fresh(now: datetime, wrapped_by: str | None) -> tuple[str, KeyEntry]:
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


def _document(entry: KeyEntry) -> dict[str, str]:
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


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise KeyRingError("has a field twice")
    return fields
