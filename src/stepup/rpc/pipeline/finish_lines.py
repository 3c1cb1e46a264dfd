"""Writes the finish lines of calls: all that matter, and a sample of a flood (S18).

A client that reaches the port can cause as many refusals as the network carries. A line for each of
them would push the other lines, decisions among them, out of a log of limited size.
"""

from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import Counter

from stepup.service.ports import Clock
from stepup.telemetry.logs import info_writer


@dataclass(frozen=True, slots=True)
class Sample:
    """How many lines of a class are written.

    Args:
        burst: lines after a pause.
        per_second: lines per second during a flood, on average.
    """

    burst: int
    per_second: float


REFUSED: Final = Sample(burst=50, per_second=0.1)
"""For calls that cost their caller nothing: a caller can make any number of them."""
UNAVAILABLE: Final = Sample(burst=500, per_second=1.0)
"""For calls that failed because a store was down. They deserved an answer, so more are written."""
COMPLETE: Final = frozenset({"OK", "INTERNAL"})
"""The status codes whose lines are all written: successful calls, and faults of this program."""
SUMMARY_SECONDS: Final = 60.0
"""The time between two summaries of the lines that were left out."""
MAX_CLASSES: Final = 1024
"""How many classes have a sample of their own; all others share one."""
_Class = tuple[str, str, str]
_OTHERS: Final = ("", "", "")
_log = structlog.get_logger(__name__)
_suppressed = Counter(
    "stepup_call_lines_suppressed",
    "Finish lines of refused, failed or abandoned calls that were left out of the log.",
    ["caller", "code", "reason"],
)


@dataclass(slots=True)
class _Bucket:
    """How many lines a class may write, and how many were left out since the last summary."""

    sample: Sample
    tokens: float
    filled_at: float
    left_out: int = 0


class FinishLines:
    """Writes the finish lines of calls.

    A line is always written if its call succeeded, made a decision, or met a fault of this program.
    All other lines are sampled by class: caller, status code and reason. So a flood of one caller
    hides no line of another caller, and calls without credentials hide no other line.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._write = info_writer()
        self._buckets: dict[_Class, _Bucket] = {}

    def write(self, line: dict[str, Any], *, has_concluded: bool) -> None:
        """Write the line of a call, which may have concluded in a decision, or count it."""
        if has_concluded or line["code"] in COMPLETE or self._take_token(line):
            self._write("call", line)

    async def sum_up(self) -> None:
        """Write a line for each class with lines that were left out since the last summary."""
        for (caller, code, reason), bucket in self._buckets.items():
            if bucket.left_out:
                _log.info(
                    "calls_not_logged",
                    caller=caller or None,
                    code=code or None,
                    reason=reason or None,
                    calls=bucket.left_out,
                )
                bucket.left_out = 0

    def _take_token(self, line: dict[str, Any]) -> bool:
        line_class = (line["caller"] or "", line["code"], line["reason"] or "")
        now = self._clock.monotonic()
        bucket = self._buckets.get(line_class)
        if bucket is None:
            if len(self._buckets) >= MAX_CLASSES:
                line_class = _OTHERS
            sample = UNAVAILABLE if line["code"] == "UNAVAILABLE" else REFUSED
            bucket = self._buckets.setdefault(line_class, _Bucket(sample, sample.burst, now))
        sample = bucket.sample
        earned = (now - bucket.filled_at) * sample.per_second
        bucket.tokens = min(sample.burst, bucket.tokens + earned)
        bucket.filled_at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return True
        bucket.left_out += 1
        _suppressed.labels(*line_class).inc()
        return False
