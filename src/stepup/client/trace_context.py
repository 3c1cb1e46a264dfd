"""The trace that a call belongs to, where OpenTelemetry is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def trace_context() -> Callable[[], Iterable[tuple[str, str]]]:
    """Return a function that returns the metadata of the current span, such as `traceparent`."""
    try:
        from opentelemetry import context, propagate  # noqa: PLC0415  # an import takes a while
    except ImportError:
        return tuple

    def inject() -> Iterable[tuple[str, str]]:
        if not context.get_current():  # neither a span nor baggage: most programs
            return ()
        carrier: dict[str, Any] = {}
        propagate.inject(carrier)
        return carrier.items()

    return inject
