"""Callers that never stop calling, and tolerate no failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import grpc
from stepup_tests.certificates import Credential
from stepup_tests.e2e.callers import Callers
from stepup_tests.e2e.guarded import SERVERS
from stepup_tests.e2e.processes import ServerProcess

from stepup.v1 import actor_pb2, step_up_service_pb2, step_up_service_pb2_grpc

_CALLERS = 4
_CALLS_PER_CONNECTION = 3
# Each channel has a connection of its own, and a failure is not tried again behind our back.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
_REQUEST = step_up_service_pb2.CheckStepUpRequest(
    actor=actor_pb2.ActorContext(tenant_id="acme", user_id="bob", session_id="monday"),
    operation="response.run_osquery",
)


def connection(server: ServerProcess, credential: Credential) -> grpc.Channel:
    """A channel of its own to a server with TLS."""
    credentials = grpc.ssl_channel_credentials(SERVERS.chain, credential.key, credential.chain)
    return grpc.secure_channel(server.address, credentials, _OPTIONS)


def check_on(channel: grpc.Channel) -> None:
    """One call.

    Raises:
        grpc.RpcError: it failed.
    """
    step_up_service_pb2_grpc.StepUpServiceStub(channel).CheckStepUp(_REQUEST, timeout=20)


class Load(Callers):
    """Callers with certificates; half of them keep their connection, the others open new ones.

    `credential` is what new connections present, and may be replaced.
    """

    def __init__(self, server: ServerProcess, credential: Credential) -> None:
        self.credential = credential
        self._server = server
        self._channels: dict[int, tuple[grpc.Channel, int]] = {}
        super().__init__({number: partial(self._check, number) for number in range(_CALLERS)})

    def go_on(self) -> None:
        """Wait until every caller has had some more answers, on new connections as well."""
        for number in range(_CALLERS):
            self.wait_for(2 * _CALLS_PER_CONNECTION, "OK", of=number)

    def end(self) -> None:
        super().end()
        for channel, _ in self._channels.values():
            channel.close()

    def _check(self, number: int) -> str:
        channel, calls = self._channels.get(number) or (
            connection(self._server, self.credential),
            0,
        )
        check_on(channel)
        if number % 2 and calls == _CALLS_PER_CONNECTION:
            channel.close()
            del self._channels[number]
        else:
            self._channels[number] = channel, calls + 1
        return "OK"


@contextmanager
def under_load(server: ServerProcess, credential: Credential) -> Iterator[Load]:
    """Callers that call as long as the block lasts, none of which may fail."""
    with Load(server, credential) as load:
        load.go_on()
        yield load
    assert set(load.outcomes) == {"OK"}, load.outcomes
