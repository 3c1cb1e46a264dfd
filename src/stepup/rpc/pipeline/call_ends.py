"""The metrics of a call that has ended, and its span, by OpenTelemetry's names for RPCs."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from grpc import StatusCode
from prometheus_client import Counter, Histogram

from stepup.domain.actor import CallerId
from stepup.rpc.pipeline.call import Method
from stepup.telemetry.spans import CallSpan

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
    "Duration of calls, from their receipt to their answer, without calls that wait for people.",
    ["method"],
    buckets=_BUCKETS,
)
_OURS: Final = (
    *("request_id", "caller", "opened_by", "page"),
    *("decision", "decision_reason", "decisions", "outcome"),
)
_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""The status codes of server errors, in OpenTelemetry's conventions; others are client errors."""


def count_call(method: Method, caller: CallerId | None, code: str, seconds: float) -> None:
    """Count a call that has ended; `caller` is None if the caller was not admitted."""
    _counter(method.path, caller, code).inc()
    if not method.waits:  # people take minutes: no objective for latency covers these calls
        _duration(method.path).observe(seconds)


@lru_cache(MAX_REMEMBERED)
def _counter(method: str, caller: CallerId | None, code: str) -> Counter:
    return _calls.labels(method, caller or "", code)


@lru_cache(MAX_REMEMBERED)
def _duration(method: str) -> Histogram:
    return _seconds.labels(method)


def end_span(span: CallSpan, line: Mapping[str, Any]) -> None:
    """End the span of a call with the fields of its finish line."""
    service, _, method = line["method"].partition("/")
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "rpc.grpc.status_code": StatusCode[line["code"]].value[0],
        "error.type": line["reason"],
        **{f"stepup.{name}": line.get(name) for name in _OURS},
    }
    present = {name: value for name, value in attributes.items() if value is not None}
    span.end(present, failed=line["code"] in _FAULTS)
