"""JSON that is one line for every reader: a terminal, grep, jq, Python's `splitlines`."""

import json
from collections.abc import Callable
from typing import Any

import orjson


def ascii_json(value: Any, default: Callable[[Any], Any], options: int = 0) -> bytes:
    """A value as a line of JSON in ASCII, with a newline at its end.

    What is beyond ASCII is escaped: some of it ends a line for some readers (U+0085, U+2028,
    U+2029), and to a terminal some of it is a command (C1) or changes the order of what is shown
    (bidirectional characters). Control characters of ASCII are always escaped in JSON.

    Args:
        value: what is written.
        default: makes JSON values of what is none.
        options: of orjson, which writes datetimes by itself; `default` gets them otherwise.

    Raises:
        TypeError: `default` failed.
    """
    try:
        line = orjson.dumps(value, default=default, option=options | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # it knows no lone surrogates, and no integers of more than 64 bits
        line = None
    if line is not None and line.isascii() and b"\x7f" not in line:
        return line
    text = json.dumps(value, default=default, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode() + b"\n"
