"""Counts near misses: codes that are refused though they fit the step before or after (S1).

Many of them tell that a clock is off, of this machine or of the people's, or that somebody passes
codes on. They are never a reason to accept one.
"""

from prometheus_client import Counter

from stepup.domain.totp import StepMatch

_near_misses = Counter(
    "stepup_near_misses",
    "Refused codes that would have fitted the 30-second step before or after.",
    ["step"],
)
_BY_OFFSET = {-1: _near_misses.labels("before"), 1: _near_misses.labels("after")}


def count_near_miss(matched: StepMatch) -> None:
    """Count a code, if it is a near miss."""
    if matched.near_miss:
        _BY_OFFSET[matched.near_miss].inc()
