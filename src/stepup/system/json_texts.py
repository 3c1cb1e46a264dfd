"""JSON: strict about that of other programs, and one line in ASCII for every reader of ours."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import orjson


def ascii_json(value: Any, default: Callable[[Any], Any], options: int = 0) -> bytes:
    """Encode a value as a line of JSON in ASCII, with a newline at its end.

    All other characters are escaped: some end a line for some readers (U+0085, U+2028, U+2029),
    some are commands for a terminal (C1) or change the order of the text (bidirectional
    characters). JSON always escapes the control characters of ASCII.

    Args:
        value: the value.
        default: converts values that JSON does not have.
        options: options of orjson, which encodes datetimes itself; the fall-back passes them to
            `default`.

    Raises:
        TypeError: `default` failed.
    """
    try:
        line = orjson.dumps(value, default=default, option=options | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # orjson has no lone surrogates, and no integers of more than 64 bits
        line = None
    if line is not None and line.isascii() and b"\x7f" not in line:
        return line
    text = json.dumps(value, default=default, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode() + b"\n"


def strict_json(text: str | bytes) -> Any:
    """Parse JSON in which no object has the same name twice.

    Parsers disagree on which of two values counts (RFC 8259 §4).

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or repeats a name. The message
            completes "<file> ..." and has no part of the text (S11).
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RepeatedNameError:
        raise ValueError("has a name twice in one object") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def json_with_unique_names(text: str) -> Any:
    """Parse JSON as `strict_json` does, of a file without secrets: a message may show a part of it.

    Raises:
        RepeatedNameError: an object has a name twice.
        ValueError: the text is not JSON; the message says where.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


class RepeatedNameError(ValueError):
    """An object has a name twice. The message has the name, and completes "<file> ..."."""

    def __init__(self, name: str) -> None:
        super().__init__(f"has the name {name!r} twice in one object")


def demand_unique_names(names: Iterable[str]) -> None:
    """Raise an error if a name is there twice.

    Raises:
        RepeatedNameError: it is.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RepeatedNameError(name)
        seen.add(name)


def whole_numbers(value: Any) -> Any:
    """The JSON value with an integer for each number without a fraction.

    `google.protobuf.Struct` has floating-point numbers only: this undoes what it does to integers.
    """
    if isinstance(value, dict):
        return {name: whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return list(map(whole_numbers, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        demand_unique_names(name for name, _ in pairs)
    return fields
