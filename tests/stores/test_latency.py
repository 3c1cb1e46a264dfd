"""What is measured of the stores."""

import pytest
from stepup_tests.metrics import metric
from stepup_tests.spans import CallSpan

from stepup.domain.errors import ConflictError, StoreUnavailableError
from stepup.stores.latency import measured
from stepup.telemetry.spans import at_hand


def counts(work):
    """How much work was measured, and how much of it failed."""
    return (
        metric("stepup_store_seconds_count", work=work),
        metric("stepup_store_failures_total", work=work),
    )


def test_work_is_measured():
    done, failed = counts("redis")
    with measured("redis"):
        pass
    assert counts("redis") == (done + 1, failed)


@pytest.mark.parametrize(("error", "failures"), [(StoreUnavailableError, 1), (ConflictError, 0)])
def test_work_fails_when_the_store_is_not_there(error, failures):
    done, failed = counts("sql_transaction")
    with pytest.raises(error), measured("sql_transaction"):
        raise error("x")
    assert counts("sql_transaction") == (done + 1, failed + failures)


@pytest.fixture
def span():
    """The span of the call at hand."""
    span = CallSpan()
    before = at_hand.set(span)
    yield span
    at_hand.reset(before)


def test_work_is_part_of_the_call_at_hand(span):
    with measured("sql_transaction"):
        pass
    assert span.parts == [("sql_transaction", False)]


@pytest.mark.parametrize(
    ("error", "failed"),
    [(StoreUnavailableError, True), (ConflictError, False), (ValueError, False)],
)
def test_a_part_has_failed_where_the_store_was_not_there(span, error, failed):
    with pytest.raises(error), measured("redis"):
        raise error("what became of it")
    assert span.parts == [("redis", failed)]
