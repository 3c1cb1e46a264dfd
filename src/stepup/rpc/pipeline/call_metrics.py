"""Counts calls by method, caller and status, and measures their duration."""

from functools import lru_cache
from typing import Final

from prometheus_client import Counter, Histogram

from stepup.domain.actor import CallerId

MAX_REMEMBERED: Final = 4096
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: finest at the duration of a check, and up to the usual deadline of callers."""

_calls = Counter(
    "stepup_calls",
    "Calls that have ended, by gRPC status; the caller is empty if it was not admitted.",
    ["method", "caller", "code"],
)
_seconds = Histogram(
    "stepup_call_seconds",
    "Duration of calls, from their receipt to their answer.",
    ["method"],
    buckets=_BUCKETS,
)


def count_call(method: str, caller: CallerId | None, code: str, seconds: float) -> None:
    """Count a call that has ended.

    Args:
        method: a known method: `StepUpService/CheckStepUp`.
        caller: its name in the configuration; None if the caller was not admitted.
        code: the name of the status in gRPC.
        seconds: the time since the receipt.
    """
    _counter(method, caller, code).inc()
    _duration(method).observe(seconds)


@lru_cache(MAX_REMEMBERED)
def _counter(method: str, caller: CallerId | None, code: str) -> Counter:
    return _calls.labels(method, caller or "", code)


@lru_cache(MAX_REMEMBERED)
def _duration(method: str) -> Histogram:
    return _seconds.labels(method)
