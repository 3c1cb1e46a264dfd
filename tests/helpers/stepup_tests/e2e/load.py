"""Callers that never stop calling, and tolerate no failure."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import grpc
from stepup_tests.certificates import Credential
from stepup_tests.e2e.guarded import SERVERS
from stepup_tests.e2e.processes import ServerProcess, eventually

from stepup.v1 import actor_pb2, step_up_service_pb2, step_up_service_pb2_grpc

_CALLERS = 4
_CALLS_PER_CONNECTION = 3
_PAUSE_SECONDS = 0.01
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


class Load:
    """Callers with certificates; half of them keep their connection, the others open new ones.

    `credential` is what new connections present, and may be replaced.
    """

    def __init__(self, server: ServerProcess, credential: Credential) -> None:
        self.credential = credential
        self._server = server
        self._stopped = threading.Event()
        self._answers = [0] * _CALLERS
        self._callers: list[Future[None]] = []

    def begin(self, threads: ThreadPoolExecutor) -> None:
        """Let the callers call."""
        self._callers = [threads.submit(self._call, number) for number in range(_CALLERS)]

    def goes_on(self) -> None:
        """Wait until every caller has had some more answers, on new connections as well.

        Raises:
            grpc.RpcError: a call failed.
        """
        wanted = [answers + 2 * _CALLS_PER_CONNECTION for answers in self._answers]

        def have_answers() -> bool:
            for caller in self._callers:
                if caller.done():
                    caller.result()
            return all(has >= wants for has, wants in zip(self._answers, wanted, strict=True))

        eventually(have_answers, "every caller gets answers")

    def end(self) -> None:
        """Let the callers end; raises what made one of them end before."""
        self._stopped.set()
        for caller in self._callers:
            caller.result()

    def _call(self, number: int) -> None:
        keeps = number % 2 == 0
        while not self._stopped.is_set():
            with connection(self._server, self.credential) as channel:
                for calls in count():
                    if self._stopped.wait(_PAUSE_SECONDS):
                        return
                    if not keeps and calls == _CALLS_PER_CONNECTION:
                        break
                    check_on(channel)
                    self._answers[number] += 1


@contextmanager
def under_load(server: ServerProcess, credential: Credential) -> Iterator[Load]:
    """Callers that call as long as the block lasts, none of which may fail."""
    load = Load(server, credential)
    with ThreadPoolExecutor(_CALLERS) as threads:
        load.begin(threads)
        try:
            load.goes_on()
            yield load
        finally:
            load.end()
