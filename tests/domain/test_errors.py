from datetime import timedelta

import pytest

from stepup.domain.errors import (
    CallerRateLimitedError,
    ConflictError,
    InvalidFieldError,
    StoreUnavailableError,
    UnknownOperationError,
)


@pytest.mark.parametrize("kind", [InvalidFieldError, UnknownOperationError])
def test_a_bad_field_is_named_and_completes_the_sentence(kind):
    error = kind("operation", "is required")

    assert (str(error), error.field, error.problem) == (
        "operation is required",
        "operation",
        "is required",
    )


def test_an_unknown_operation_is_a_bad_field():
    assert issubclass(UnknownOperationError, InvalidFieldError)


def test_a_conflict_that_nobody_resolved_is_an_unavailable_store():
    assert issubclass(ConflictError, StoreUnavailableError)


def test_a_caller_over_its_rate_is_told_how_long_to_wait():
    assert CallerRateLimitedError(timedelta(seconds=3)).retry_after == timedelta(seconds=3)
