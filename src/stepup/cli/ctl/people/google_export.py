"""Reads exports of Google Authenticator: `otpauth-migration://offline?data=`.

The data are a protobuf message that Google has not published; its schema here is what the app
writes. A field that is not known is refused, because it may change the codes. No error has a part
of the data, which are secret (S11).
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import unquote

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from stepup.domain.errors import InvalidValueError
from stepup.domain.key_uri import KeyUri, UnsupportedKeyError, secret_of

PREFIX: Final = "otpauth-migration://offline?data="
_VERSIONS: Final = (1, 2)
_MAX_PARTS: Final = 1000
"""Far more than anybody photographs."""
_SHA1, _SIX_DIGITS, _TOTP = 1, 1, 2
_DEFAULT = 0
_EXPORT_FIELDS: Final = {
    "entries": "MESSAGE",
    "version": "INT32",
    "batch_size": "INT32",
    "batch_index": "INT32",
    "batch_id": "INT32",
}
_ENTRY_FIELDS: Final = {
    "secret": "BYTES",
    "name": "STRING",
    "issuer": "STRING",
    "algorithm": "INT32",
    "digits": "INT32",
    "type": "INT32",
    "counter": "INT64",
    "unique_id": "STRING",
}
"""The fields of the messages in the order of their numbers, from 1."""


@dataclass(frozen=True, slots=True)
class ExportPart:
    """One QR code of an export.

    Args:
        entries: an authenticator each, or why it was refused.
        batch: names the export that the part belongs to.
        index: its place in the export, from 0.
        size: how many parts the export has.
    """

    entries: tuple[KeyUri | InvalidValueError, ...]
    batch: int
    index: int
    size: int


def read(link: str) -> ExportPart:
    """Read one QR code of an export.

    Raises:
        InvalidValueError: the link is not one of an export, or its data are malformed.
    """
    export: Any = _decoded(link)
    size = export.batch_size or 1
    if export.version not in _VERSIONS or len(UnknownFieldSet(export)):
        raise InvalidValueError("must have version 1 or 2, and no field that is not known")
    if not 0 <= export.batch_index < size <= _MAX_PARTS:
        raise InvalidValueError(f"must have 1 to {_MAX_PARTS} QR codes, and be one of them")
    entries = tuple(map(_entry, export.entries))
    return ExportPart(entries, export.batch_id, export.batch_index, size)


def missing(parts: Iterable[ExportPart]) -> list[list[int]]:
    """The missing parts of each incomplete export, counted from 1 as the app counts them."""
    left: dict[tuple[int, int], set[int]] = {}
    for part in parts:
        numbers = left.setdefault((part.batch, part.size), set(range(1, part.size + 1)))
        numbers.discard(part.index + 1)
    return [sorted(numbers) for numbers in left.values() if numbers]


@cache
def _export_class() -> type[Message]:
    """The class of the app's message."""
    package = "stepup.google_export"
    described = {
        "name": "stepup/google_export.proto",
        "package": package,
        "syntax": "proto3",
        "messageType": [
            _described("Export", _EXPORT_FIELDS, entries=f".{package}.Entry"),
            _described("Entry", _ENTRY_FIELDS),
        ],
    }
    pool = descriptor_pool.DescriptorPool()
    pool.Add(ParseDict(described, FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Export"))


def _described(name: str, fields: Mapping[str, str], **repeated: str) -> Mapping[str, Any]:
    return {
        "name": name,
        "field": [
            {"name": field, "number": number, "type": f"TYPE_{kind}"}
            | (
                {"label": "LABEL_REPEATED", "typeName": repeated[field]}
                if field in repeated
                else {"label": "LABEL_OPTIONAL"}
            )
            for number, (field, kind) in enumerate(fields.items(), start=1)
        ],
    }


def _decoded(link: str) -> Message:
    malformed = InvalidValueError(f"must be {PREFIX} and the data of an export")
    if not link.startswith(PREFIX):
        raise malformed
    try:
        # Not parse_qsl(), to which a + that is not encoded is a blank.
        data = b64decode(unquote(link.removeprefix(PREFIX)), validate=True)
        return _export_class().FromString(data)
    except (ValueError, DecodeError):  # `from None`: the error of the library may have the data
        raise malformed from None


def _entry(entry: Any) -> KeyUri | InvalidValueError:
    try:
        if entry.type != _TOTP:
            raise UnsupportedKeyError("must have the type totp")
        if entry.algorithm not in (_DEFAULT, _SHA1):
            raise UnsupportedKeyError("must have algorithm SHA1")
        if entry.digits not in (_DEFAULT, _SIX_DIGITS):
            raise UnsupportedKeyError("must have digits 6")
        if len(UnknownFieldSet(entry)):
            raise UnsupportedKeyError("has a field that is not known: it may change the codes")
        return KeyUri.labelled(secret_of(entry.secret), entry.name, entry.issuer)
    except InvalidValueError as error:
        return error
