"""What many numbers come to."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Latencies:
    """Of one call at a time, or of calls at a rate."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, milliseconds):
        """Of single calls."""
        return cls(percentile(milliseconds, 50), percentile(milliseconds, 99))


def percentile(values, percent):
    """The smallest of the values that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def spread(values):
    """How far the values lie apart, as a share of their median: 0.1 is ±5%."""
    return (max(values) - min(values)) / statistics.median(values)


def paired_ratio(ones, others):
    """The median of the ratios, run by run: what drifts with the machine drifts for both."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))
