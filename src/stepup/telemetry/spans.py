"""The span of the current call, if its trace is recorded, and the parts of the span.

This module does not know the recorder of spans. Without one, a part costs only a look-up.
"""

import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, TypeAlias

from prometheus_client import Counter

from stepup.domain.errors import ConflictError, StoreUnavailableError

recorded = Counter("stepup_spans", "Spans that were recorded, to be exported.")
exported = Counter("stepup_spans_exported", "Spans that the collector has taken.")

Attributes: TypeAlias = Mapping[str, str | int | Sequence[str]]


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
