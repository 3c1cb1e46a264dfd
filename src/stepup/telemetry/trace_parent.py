"""W3C Trace Context, level 1: the caller's trace that a call belongs to."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_KEY: Final = "traceparent"
_VERSION_00: Final = re.compile(
    r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A trace and the caller's span in it, both in lower-case hex, and whether it is recorded."""

    trace_id: str
    span_id: str
    is_sampled: bool


def trace_parent_of(metadata: Iterable[tuple[str, str | bytes]]) -> TraceParent | None:
    """Return the trace of the caller's metadata; None without a `traceparent` of version 00.

    No decision depends on the caller's trace. A `traceparent` that is not valid, or that occurs
    twice, is ignored and does not fail the call (S18).
    """
    given = [value for key, value in metadata if key == _KEY]
    return _parsed(given[0]) if len(given) == 1 else None


def _parsed(given: str | bytes) -> TraceParent | None:
    found = _VERSION_00.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        return None
    trace, span, flags = found.groups()
    return TraceParent(trace, span, bool(int(flags, 16) & _SAMPLED))
