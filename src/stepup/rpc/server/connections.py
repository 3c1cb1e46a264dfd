"""How old a connection may become, and how those are found whose other end is gone."""

from dataclasses import dataclass
from datetime import timedelta

from stepup.rpc.engine import Options
from stepup.rpc.identity.server_credentials import CONNECTION_AGE


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a server allows its connections.

    `max_age`, to which gRPC adds or from which it takes off a tenth at random: it ends old ones
    gracefully, calls in flight finish, and clients connect again, perhaps to another server. Where
    client certificates are verified it may be `CONNECTION_AGE` at the most.

    `silence` is after how long of it the server asks whether the client is still there, calls in
    flight or not, and `answer_within` how long it waits. `pings_apart` is how long clients have to
    wait between such questions of theirs: who asks more often, more than twice, is sent away.
    """

    max_age: timedelta = CONNECTION_AGE
    silence: timedelta = timedelta(minutes=1)
    answer_within: timedelta = timedelta(seconds=20)
    pings_apart: timedelta = timedelta(seconds=10)

    @property
    def options(self) -> Options:
        """The same for an engine."""
        return (
            ("grpc.max_connection_age_ms", _milliseconds(self.max_age)),
            ("grpc.keepalive_time_ms", _milliseconds(self.silence)),
            # Both: the one alone ends no connection before the other, a minute by default.
            ("grpc.keepalive_timeout_ms", _milliseconds(self.answer_within)),
            ("grpc.http2.ping_timeout_ms", _milliseconds(self.answer_within)),
            # Without it gRPC takes a ping every two hours from who has no call in flight.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(self.pings_apart)),
        )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
