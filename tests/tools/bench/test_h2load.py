"""How h2load is asked to send, and what is understood of its answer."""

import pytest

from tools.bench.h2load import Load, LoadError, Target, at_full_speed, latencies_ms, paced, parsed

OUTPUT = """
finished in 749.10ms, 6674.66 req/s, 430.57KB/s
requests: 5000 total, 5000 started, 5000 done, 4998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 4998 2xx, 0 3xx, 2 4xx, 0 5xx
traffic: 322.54KB (330282) total, 15.23KB (15600) headers (space savings 96%), 43.95KB (45000) data
                     min         max         mean         sd        +/- sd
time for request:      437us     14.42ms      9.50ms      1.60ms    82.94%
"""
TARGET = Target("http://127.0.0.1:1/s/m", "request", (("authorization", "Bearer x"),))


def option(command, name):
    return command[command.index(name) + 1]


def test_the_output_is_read():
    assert parsed(OUTPUT) == Load(requests=5000, succeeded=4998, rps=6674.66, data_bytes=45000)


@pytest.mark.parametrize("missing", ["req/s", "total, 5000", "2xx", "data"])
def test_output_that_lacks_something_is_an_error(missing):
    with pytest.raises(LoadError):
        parsed(OUTPUT.replace(missing, ""))


def test_latencies_are_milliseconds():
    assert latencies_ms(["1795509070523113\t200\t5914", "1795509070523148\t200\t250"]) == [
        5.914,
        0.25,
    ]


def test_a_call_without_an_answer_has_no_latency():
    with pytest.raises(LoadError):
        latencies_ms(["1795509070523113\t-1\t5914"])


def test_requests_are_those_of_grpc_with_the_callers_metadata():
    command = at_full_speed(TARGET, 1000)
    headers = {command[i + 1] for i, word in enumerate(command) if word == "-H"}
    wanted = {"content-type: application/grpc", "te: trailers", "authorization: Bearer x"}
    assert headers == wanted
    assert option(command, "-d") == "request"
    assert command[-1] == TARGET.url


@pytest.mark.parametrize("rate", [1, 90, 1000, 20_000])
def test_a_pace_is_kept_by_connections_that_take_turns_of_a_millisecond(rate):
    command = paced(TARGET, 100_000, rate, "log")
    connections, each = int(option(command, "-c")), float(option(command, "--rps"))
    assert connections * each == pytest.approx(rate, rel=0.01)
    assert connections % 10 == 0  # h2load's own turns are of 10 ms
    assert option(command, "--rate-period") == "1ms"
    assert option(command, "-r") == "1"
