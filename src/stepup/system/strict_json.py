"""JSON of other programs, of which every parser must read the same."""

import json
from typing import Any


def parse(text: str | bytes) -> Any:
    """Parse JSON in which no object has the same name twice.

    Parsers disagree on which of two values counts (RFC 8259 §4).

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or repeats a name. The message
            completes "<file> ..." and has no part of the text (S11).
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except _RepeatedNameError:
        raise ValueError("has a name twice in one object") from None
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


class _RepeatedNameError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _RepeatedNameError
    return fields
