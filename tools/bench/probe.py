"""The latency probe: grpcio's own client, one call at a time on one channel."""

import time
from contextlib import contextmanager

import grpc

_CALL_SECONDS = 5
_WARM_UP_CALLS = 300


class Probe:
    """Makes the one call of the benchmark, and looks at each answer."""

    def __init__(self, channel, variant, question, metadata) -> None:
        self._ask = channel.unary_unary(question.method)
        self._variant = variant
        self._question = question
        self._metadata = metadata
        self.calls = 0

    def answer_bytes(self):
        """The size of an answer, after it was found to be right, its status among it.

        Raises:
            WrongAnswersError: it is not.
            grpc.RpcError: the call ended with an error.
        """
        answer, call = self._ask.with_call(
            self._question.payload, timeout=_CALL_SECONDS, metadata=self._metadata
        )
        self.calls += 1
        assert call.code() is grpc.StatusCode.OK
        self._question.check(self._variant, answer)
        return len(answer)

    def latencies_ms(self, calls):
        """How long each of so many calls takes, after others to warm up."""
        for _ in range(_WARM_UP_CALLS):
            self.answer_bytes()
        return [self._timed_ms() for _ in range(calls)]

    def _timed_ms(self):
        began = time.perf_counter()
        answer = self._ask(self._question.payload, timeout=_CALL_SECONDS, metadata=self._metadata)
        elapsed = time.perf_counter() - began
        self.calls += 1
        self._question.check(self._variant, answer)
        return elapsed * 1000


@contextmanager
def probing(address, variant, stage):
    """A probe of a server, on a channel of its own."""
    console, access = stage.console, variant.access
    with console.channel(address, access) as channel:
        yield Probe(channel, variant, stage.question(variant), console.metadata(access))
