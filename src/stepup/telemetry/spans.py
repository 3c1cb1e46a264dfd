"""The span of the call at hand, where its trace is recorded: what takes time in it is part of it.

Who records spans is not known here. Where nobody does, to look for one is all that it costs.
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
        """The trace that it is part of, in lower-case hex."""
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
    """Times what is done in the block, as a part of the call at hand."""

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
    """Whether an error says that a store was not there; a conflict is an answer of one that is."""
    return isinstance(error, StoreUnavailableError) and not isinstance(error, ConflictError)
