"""What is measured of the stores."""

import pytest
from support.metrics import metric

from stepup.domain.errors import ConflictError, StoreUnavailableError
from stepup.stores.latency import measured


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
