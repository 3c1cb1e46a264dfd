"""The client reads the errors that the server writes."""

import grpc
import pytest

from stepup.client import StateError, StepUpError, UnavailableError
from stepup.client.errors import error_of
from stepup.domain.errors import ElevationRequiredError, MfaEnforcedError, StoreUnavailableError
from stepup.rpc.wire.errors import to_status


class EndedError(grpc.RpcError):
    """What grpc raises when a call has ended with a status, or with one that is not ours."""

    def __init__(self, status=None):
        super().__init__()
        self._status = status

    def code(self):
        return self._status.code if self._status else grpc.StatusCode.UNAVAILABLE

    def details(self):
        return self._status.message if self._status else "connection refused"

    def trailing_metadata(self):
        return self._status.trailers if self._status else ()


@pytest.mark.parametrize(
    ("written", "kind", "reason", "details", "retryable"),
    [
        (
            ElevationRequiredError("enrol first", is_enrolled=False),
            StateError,
            "ELEVATION_REQUIRED",
            {"next_step": "ENROLL"},
            False,
        ),
        (MfaEnforcedError("it is on"), StateError, "MFA_ENFORCED_BY_POLICY", {}, False),
        (StoreUnavailableError("Redis"), UnavailableError, "STORE_UNAVAILABLE", {}, True),
    ],
)
def test_an_error_has_a_reason_and_what_a_program_can_act_on(
    written, kind, reason, details, retryable
):
    error = error_of(EndedError(to_status(written)))
    assert type(error) is kind
    assert (error.reason, dict(error.details), error.retryable) == (reason, details, retryable)


def test_an_error_that_is_not_of_the_server_has_no_reason():
    error = error_of(EndedError())
    assert isinstance(error, StepUpError)
    assert (error.code, error.reason, error.details) == ("UNAVAILABLE", "", {})
