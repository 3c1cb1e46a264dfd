"""The latency probe: grpcio's own client, one call at a time on one channel."""

import time
from contextlib import contextmanager

import grpc

from stepup.v1 import step_up_service_pb2_grpc
from tools.bench.answers import check_answer

_CALL_SECONDS = 5
_WARM_UP_CALLS = 300


class Probe:
    """Makes the one call of the benchmark, and looks at each answer."""

    def __init__(self, channel, variant, request, metadata) -> None:
        self._check = step_up_service_pb2_grpc.StepUpServiceStub(channel).CheckStepUp
        self._variant = variant
        self._request = request
        self._metadata = metadata
        self.calls = 0

    def answer_bytes(self):
        """The size of an answer, after it was found to be right, its status among it.

        Raises:
            WrongAnswersError: it is not.
            grpc.RpcError: the call ended with an error.
        """
        answer, call = self._check.with_call(
            self._request, timeout=_CALL_SECONDS, metadata=self._metadata
        )
        self.calls += 1
        assert call.code() is grpc.StatusCode.OK
        check_answer(self._variant, answer)
        return answer.ByteSize()

    def latencies_ms(self, calls):
        """How long each of so many calls takes, after others to warm up."""
        for _ in range(_WARM_UP_CALLS):
            self.answer_bytes()
        return [self._timed_ms() for _ in range(calls)]

    def _timed_ms(self):
        began = time.perf_counter()
        answer = self._check(self._request, timeout=_CALL_SECONDS, metadata=self._metadata)
        elapsed = time.perf_counter() - began
        self.calls += 1
        check_answer(self._variant, answer)
        return elapsed * 1000


@contextmanager
def probing(address, variant, stage):
    """A probe of a server, on a channel of its own."""
    console, access = stage.console, variant.access
    with console.channel(address, access) as channel:
        yield Probe(channel, variant, stage.person.question, console.metadata(access))
