"""Answers of the server: as JSON objects with the names of the protos, and as texts for people."""

from datetime import UTC
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from stepup.cli.times import shown
from stepup.system.json_texts import whole_numbers

NONE: Final = "-"
"""What a table shows for an absent value."""


def fields_of(message: Message) -> dict[str, Any]:
    """The fields of a message: each field that cannot be absent, and each other that is present.

    Enum values have their names, durations the form `300s`, times are UTC. Numbers without a
    fraction are integers.
    """
    fields: dict[str, Any] = whole_numbers(
        MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )
    return fields


def instant_shown(instant: Timestamp) -> str:
    """A time, for people; `NONE` if it is absent."""
    return shown(instant.ToDatetime(UTC)) if instant.seconds else NONE


def word_of(enum: EnumDescriptor, number: int) -> str:
    """The word for a value of an enum, such as `not_enrolled`; the number if it is not known."""
    if number not in enum.values_by_number:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return enum.values_by_number[number].name.removeprefix(prefix).lower()
