"""The load of different calls, against a server that is not ours: grpcio's own."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tools.bench.answers import WrongAnswersError
from tools.bench.flood import Call, flood

METHOD = "/s/m"
TOKENS = ("one", "two" * 200)  # the second is longer than seven bits can tell


@pytest.fixture
def served():
    """Starts a server whose answers a test decides on; returns its address."""
    server = grpc.server(ThreadPoolExecutor(4))

    def start(answer):
        handler = grpc.unary_unary_rpc_method_handler(answer)
        services = (grpc.method_handlers_generic_handler("s", {"m": handler}),)
        server.add_generic_rpc_handlers(services)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    server.stop(None).wait()


def test_every_message_is_sent_once_with_the_tokens_in_turn(served):
    seen = []

    def answer(message, context):
        seen.append((message, dict(context.invocation_metadata())["authorization"]))
        return b"right, and more"

    messages = [b"%d" % number for number in range(1000)]
    call = Call(served(answer), METHOD, TOKENS, b"right")
    flooded = flood(call, messages, connections=4, in_flight=8)
    assert flooded.rps > 0
    assert len(flooded.latencies_ms) == 1000
    assert sorted(message for message, _ in seen) == sorted(messages)
    assert {token for _, token in seen} == {f"Bearer {token}" for token in TOKENS}


def test_another_answer_ends_it(served):
    call = Call(served(lambda _m, _c: b"wrong"), METHOD, ("t",), b"right")
    with pytest.raises(WrongAnswersError, match=b"wrong".hex()):
        flood(call, [b"a"])
