"""What the wire says of a value of the domain, where no answer of a whole call shows it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.rpc.wire import encode

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))])
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES)  # noqa: DTZ001


@given(INSTANTS)
def test_an_instant_is_the_same_on_the_wire(instant):
    assert encode.timestamp(instant).ToDatetime(UTC) == instant


@pytest.mark.parametrize(
    ("instant", "seconds", "nanos"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0, 0),
        (datetime(1970, 1, 2, 0, 0, 1, 2, UTC), 86_401, 2_000),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), -1, 999_999_000),
    ],
)
def test_an_instant_is_whole_seconds_and_what_is_beyond_them(instant, seconds, nanos):
    message = encode.timestamp(instant)
    assert (message.seconds, message.nanos) == (seconds, nanos)
