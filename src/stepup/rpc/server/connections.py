"""The limits of connections, as gRPC channel arguments."""

from dataclasses import dataclass
from datetime import timedelta

from stepup.rpc.engine import Options
from stepup.rpc.identity.server_credentials import CONNECTION_AGE


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a server keeps connections, and how it finds those whose client is gone.

    Args:
        max_age: the age at which gRPC ends a connection gracefully: calls in flight finish, and the
            client connects again, perhaps to another server. gRPC adds or subtracts a tenth at
            random. With client certificates, the limit is `CONNECTION_AGE`.
        silence: the server pings a client after this time without data, even without a call in
            flight.
        answer_within: the connection ends if the client does not answer a ping in this time.
        pings_apart: the shortest time between two pings of a client. A client that pings too often
            is disconnected at the third such ping.
    """

    max_age: timedelta = CONNECTION_AGE
    silence: timedelta = timedelta(minutes=1)
    answer_within: timedelta = timedelta(seconds=20)
    pings_apart: timedelta = timedelta(seconds=10)

    @property
    def options(self) -> Options:
        """The limits as channel arguments."""
        return (
            ("grpc.max_connection_age_ms", _milliseconds(self.max_age)),
            ("grpc.keepalive_time_ms", _milliseconds(self.silence)),
            # Both are necessary: the longer one counts, and both are a minute by default.
            ("grpc.keepalive_timeout_ms", _milliseconds(self.answer_within)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(self.answer_within)),
            # Without it, gRPC allows a client without a call in flight one ping in two hours.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(self.pings_apart)),
        )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
