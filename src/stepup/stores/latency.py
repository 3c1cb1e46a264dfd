"""How long the stores take, and how often they fail: the first look when calls are slow."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, Literal

from prometheus_client import Counter, Histogram

from stepup.domain.errors import StoreUnavailableError
from stepup.telemetry.spans import Part, has_failed

_BUCKETS: Final = (
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)

_seconds = Histogram(
    "stepup_store_seconds",
    "How long work in a store took: a round trip to Redis, a transaction or snapshot in SQL.",
    ["work"],
    buckets=_BUCKETS,
)
_failures = Counter(
    "stepup_store_failures", "Work that failed as the store was not there.", ["work"]
)

Work = Literal["redis", "sql_transaction", "sql_snapshot"]


@contextmanager
def measured(work: Work) -> Iterator[None]:
    """Measure what is done in the block; in the trace of the call at hand it is a part."""
    began = perf_counter()
    try:
        with Part(work):
            yield
    except StoreUnavailableError as error:
        if has_failed(error):
            _failures.labels(work).inc()
        raise
    finally:
        _seconds.labels(work).observe(perf_counter() - began)
