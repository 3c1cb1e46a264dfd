"""Which finish lines of calls are written: all that matter, and a sample of a flood (S18).

Anybody who reaches the port can be refused as often as the network carries. A line for each such
call would push the other lines, decisions among them, out of a log of limited size.
"""

from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import Counter

from stepup.service.ports import Clock


@dataclass(frozen=True, slots=True)
class Sample:
    """How many lines of a class are written.

    Args:
        burst: at once after a pause.
        per_second: on average during a flood.
    """

    burst: int
    per_second: float


REFUSED: Final = Sample(burst=50, per_second=0.1)
"""Of calls that cost their caller nothing, so that it can make any number of them."""
UNAVAILABLE: Final = Sample(burst=500, per_second=1.0)
"""Of calls that failed because a store was down: more, for they were worth an answer."""
COMPLETE: Final = frozenset({"OK", "INTERNAL"})
"""The status of calls whose lines are all written: those carried out, and our own faults."""
SUMMARY_SECONDS: Final = 60.0
"""How often lines that were left out are summed up in one line."""
MAX_CLASSES: Final = 1024
"""How many classes are told apart; all others share one."""
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
    """What a class of lines may still write, as of when, and what it left out since a summary."""

    sample: Sample
    tokens: float
    filled_at: float
    left_out: int = 0


class FinishLines:
    """Writes the finish lines of calls.

    A line is always written if its call succeeded, or decided something, or met a fault in this
    program. All others are sampled by class: caller, status and reason. So a caller's flood hides
    no other caller's lines, and calls without credentials hide no others.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[_Class, _Bucket] = {}

    def write(self, line: dict[str, Any], *, has_concluded: bool) -> None:
        """Write the line of a call, or count that it was left out.

        Args:
            line: its fields; `caller`, `code` and `reason` say which class it is of.
            has_concluded: whether it tells what was decided.
        """
        if has_concluded or line["code"] in COMPLETE or self._spend(line):
            _log.info("call", **line)

    async def sum_up(self) -> None:
        """Write a line for each class of which lines were left out since the last time."""
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

    def _spend(self, line: dict[str, Any]) -> bool:
        kind = (line["caller"] or "", line["code"], line["reason"] or "")
        now = self._clock.monotonic()
        bucket = self._buckets.get(kind)
        if bucket is None:
            if len(self._buckets) >= MAX_CLASSES:
                kind = _OTHERS
            sample = UNAVAILABLE if line["code"] == "UNAVAILABLE" else REFUSED
            bucket = self._buckets.setdefault(kind, _Bucket(sample, sample.burst, now))
        sample = bucket.sample
        earned = (now - bucket.filled_at) * sample.per_second
        bucket.tokens = min(sample.burst, bucket.tokens + earned)
        bucket.filled_at = now
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return True
        bucket.left_out += 1
        _suppressed.labels(*kind).inc()
        return False
