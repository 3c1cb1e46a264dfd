"""Ends the span of a call with the fields of its finish line, by OpenTelemetry's names for RPCs."""

from collections.abc import Mapping
from typing import Any, Final

from grpc import StatusCode

from stepup.telemetry.spans import CallSpan

_OURS: Final = ("request_id", "caller", "decision", "decision_reason", "decisions", "outcome")
_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""The status codes of server errors, in OpenTelemetry's conventions; others are client errors."""


def end_span(span: CallSpan, line: Mapping[str, Any]) -> None:
    """End the span of a call.

    Args:
        span: the span.
        line: the finish line of the call.
    """
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
