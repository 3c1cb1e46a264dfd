import pytest

from stepup.domain.errors import (
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
