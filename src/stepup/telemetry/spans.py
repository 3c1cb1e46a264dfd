"""The span of the current call, if its trace is recorded, its parts, and the caller's trace.

This module does not know the recorder of spans. Without one, a part costs only a look-up.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, TypeAlias

from prometheus_client import Counter

from stepup.domain.errors import ConflictError, StoreUnavailableError

recorded = Counter("stepup_spans", "Spans that were recorded, to be exported.")
exported = Counter("stepup_spans_exported", "Spans that the collector has taken.")

Attributes: TypeAlias = Mapping[str, str | int | Sequence[str]]
_TRACE_PARENT: Final = "traceparent"
_VERSION_00: Final = re.compile(
    r"00-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_SAMPLED: Final = 1


class CallSpan(Protocol):
    """The span of a call. Nothing of a call's payload may get into one (S11)."""

    @property
    def trace_id(self) -> str:
        """The id of the span's trace, in lower-case hex."""
        ...

    def add(self, name: str, began: int, *, failed: bool) -> None:
        """Record a part that ends now, and began at so many nanoseconds since 1970."""
        ...

    def end(self, attributes: Attributes, *, failed: bool) -> None:
        """Record the call, which ends now."""
        ...


at_hand: ContextVar[CallSpan | None] = ContextVar("span", default=None)
"""The span of the call that a task works for."""


class Part:
    """Records the time of a block as a part of the current call."""

    __slots__ = ("_began", "_name", "_span")

    def __init__(self, name: str) -> None:
        self._name = name
        self._span = at_hand.get()

    def __enter__(self) -> None:
        if self._span is not None:
            self._began = time.time_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._span is not None:
            self._span.add(self._name, self._began, failed=has_failed(error))


def has_failed(error: BaseException | None) -> bool:
    """Whether an error means that a store did not answer; a conflict is an answer."""
    return isinstance(error, StoreUnavailableError) and not isinstance(error, ConflictError)


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A trace and the caller's span in it, in lower-case hex (W3C Trace Context, level 1)."""

    trace_id: str
    span_id: str
    is_sampled: bool


def trace_parent_of(metadata: Iterable[tuple[str, str | bytes]]) -> TraceParent | None:
    """Return the trace of the caller's metadata; None without a `traceparent` of version 00.

    No decision depends on the caller's trace. A `traceparent` that is not valid, or that occurs
    twice, is ignored and does not fail the call (S18).
    """
    given = [value for key, value in metadata if key == _TRACE_PARENT]
    return _parsed(given[0]) if len(given) == 1 else None


def _parsed(given: str | bytes) -> TraceParent | None:
    found = _VERSION_00.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        return None
    trace, span, flags = found.groups()
    return TraceParent(trace, span, bool(int(flags, 16) & _SAMPLED))
