"""What every engine does, after the interoperability cases that gRPC has for servers."""

import asyncio
import json
import socket
import threading
import time
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from stepup_tests.wire import refusal, refusal_of

from stepup.domain.errors import CallerRateLimitedError, InvalidFieldError
from stepup.rpc.engine import CallLimits
from stepup.rpc.wire.errors import RefusedError, Status

CALL = "/test.Service/Call"
OTHER = "/test.Service/Other"
WHITESPACE_AND_UNICODE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


async def echo(payload, _invocation):
    return payload


async def echo_all(payloads, _invocation):
    async for payload in payloads:
        yield payload


class Sleeper:
    """A method that does not end by itself, and knows who was stopped."""

    def __init__(self):
        self.entered = asyncio.Semaphore(0)
        self.stopped = asyncio.Event()

    async def answer(self, _payload, _invocation):
        self.entered.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise

    async def answers(self, payloads, invocation):
        async for payload in payloads:
            yield payload
            await self.answer(payload, invocation)

    async def was_stopped(self):
        async with asyncio.timeout(10):
            await self.stopped.wait()

    async def has_entered(self, times=1):
        async with asyncio.timeout(10):
            for _ in range(times):
                await self.entered.acquire()


@pytest.mark.parametrize("size", [0, 1, 60_000])
async def test_a_message_is_answered(serving, size):
    async with serving(unary={CALL: echo}) as port:
        assert await port.unary(CALL, b"x" * size) == b"x" * size


async def test_calls_go_on_beside_each_other(serving):
    async with serving(unary={CALL: echo}) as port:
        payloads = [str(number).encode() for number in range(90)]
        assert await asyncio.gather(*(port.unary(CALL, each) for each in payloads)) == payloads


async def test_thousands_of_calls_leave_nothing_behind(serving):
    async with serving(unary={CALL: echo}) as port:
        for _ in range(25):
            await asyncio.gather(*(port.unary(CALL, b"x") for _ in range(90)))
        # No call counts as in flight any more: as many as may be are served at once.
        assert len(await asyncio.gather(*(port.unary(CALL, b"x") for _ in range(100)))) == 100


async def test_a_message_over_the_limit_is_refused_and_the_server_goes_on(serving):
    async with serving(unary={CALL: echo}) as port:
        refused = await refusal_of(port.unary(CALL, b"x" * 70_000))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        # grpc's own answer (docs/api-behaviour.md): it takes no details of ours.
        assert refused.message.endswith("Received message larger than max (70000 vs. 65536)")
        assert not refused.details
        assert await port.unary(CALL, b"x") == b"x"


async def test_compressed_messages_are_read(serving):
    async with serving(unary={CALL: echo}) as port:
        payload = b"x" * 50_000
        assert await port.unary(CALL, payload, compression=grpc.Compression.Gzip) == payload


async def test_a_call_without_a_message_is_refused(serving):
    async with serving(unary={CALL: echo}) as port:
        refused = await refusal_of(_answer_of_none(port.stream(CALL, ())))
        assert refused.fields == ["request"]
        assert await port.unary(CALL, b"x") == b"x"


async def _answer_of_none(call):
    return [answer async for answer in call]


async def test_a_stream_is_answered_in_order(serving):
    async with serving(stream={CALL: echo_all}) as port:
        payloads = [str(number).encode() for number in range(500)]
        assert [each async for each in port.stream(CALL, payloads)] == payloads


async def test_an_answer_comes_before_the_next_request(serving):
    async with serving(stream={CALL: echo_all}) as port:
        call = port.channel.stream_stream(CALL)()
        for payload in (b"one", b"two"):
            await call.write(payload)
            assert await call.read() == payload
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_stream_without_requests_ends(serving):
    async with serving(stream={CALL: echo_all}) as port:
        assert [each async for each in port.stream(CALL, ())] == []


async def test_a_stream_waits_for_a_client_that_does_not_read(serving):
    written = 0

    async def endless(_payloads, _invocation):
        nonlocal written
        while True:
            yield b"x" * 10_000
            written += 1

    async with serving(stream={CALL: endless}) as port:
        call = port.stream(CALL)
        await call.read()
        last = -1
        while written != last:  # until nothing more fits
            last = written
            await asyncio.sleep(0.2)
        assert written < 5_000  # 50 MB: windows grow, and buffers, but not for ever
        for _ in range(last + 10):
            await call.read()
        assert written > last
        call.cancel()


async def test_a_stream_that_is_refused_ends_after_its_messages(serving):
    async def refusing(_payloads, _invocation):
        yield b"one"
        raise InvalidFieldError("page", "is no page")

    read = []

    async def read_all(call):
        async for each in call:
            read.append(each)  # noqa: PERF401  # what has come by the error is the point

    async with serving(stream={CALL: refusing}) as port:
        refused = await refusal_of(read_all(port.stream(CALL)))
    assert (read, refused.fields) == ([b"one"], ["page"])


async def test_metadata_arrive_text_and_binary(serving):
    seen = []

    async def look(payload, invocation):
        seen.append([(key, value) for key, value in invocation.metadata if key.startswith("x-")])
        return payload

    async with serving(unary={CALL: look}) as port:
        metadata = (("x-text", "one"), ("x-text", "two"), ("x-octets-bin", b"\x00\xff"))
        await port.unary(CALL, metadata=metadata)
    assert seen == [[("x-text", "one"), ("x-text", "two"), ("x-octets-bin", b"\x00\xff")]]


async def test_a_connection_without_tls_proves_nothing(serving):
    seen = []

    async def look(payload, invocation):
        seen.append(dict(invocation.auth_context()))
        return payload

    async with serving(unary={CALL: look}) as port:
        await port.unary(CALL)
    assert "x509_common_name" not in seen[0]


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_status_comes_with_its_message_and_details(serving, kind):
    status = Status(
        grpc.StatusCode.ABORTED, WHITESPACE_AND_UNICODE, "TEST", Any().SerializeToString()
    )

    async def refuse(_payload, _invocation):
        raise RefusedError(status)

    async def refuse_all(_payloads, _invocation):
        raise RefusedError(status)
        yield

    methods = {"unary": {CALL: refuse}} if kind == "unary" else {"stream": {CALL: refuse_all}}
    async with serving(**methods) as port:
        refused = await refusal_of(port.unary(CALL))
        assert (refused.code, refused.message) == (grpc.StatusCode.ABORTED, WHITESPACE_AND_UNICODE)


async def test_an_error_of_ours_has_its_details(serving):
    async def refuse(_payload, _invocation):
        raise CallerRateLimitedError(timedelta(seconds=1))

    async with serving(unary={CALL: refuse}) as port:
        assert (await refusal_of(port.unary(CALL))).reason == "CALLER_RATE_LIMITED"


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_no_word_of_a_crash_leaves_the_process(serving, kind):
    async def crash(_payload, _invocation):
        raise RuntimeError("secret")

    async def crash_all(_payloads, _invocation):
        yield b"one"
        raise RuntimeError("secret")

    methods = {"unary": {CALL: crash}} if kind == "unary" else {"stream": {CALL: crash_all}}
    async with serving(**methods) as port:
        call = port.stream(CALL)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            [each async for each in call]
        refused = refusal(error.value)
        assert refused.code is grpc.StatusCode.INTERNAL
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_handler_that_is_cancelled_from_within_has_crashed(serving, kind):
    """Its client has not given up, and still waits."""

    async def cancelled(_payload, _invocation):
        asyncio.current_task().get_loop().call_soon(waited_for.cancel)
        await waited_for

    async def all_cancelled(_payloads, _invocation):
        await cancelled(None, None)
        yield

    waited_for = asyncio.get_running_loop().create_future()
    methods = {"unary": {CALL: cancelled}, "stream": {CALL: all_cancelled}}
    async with serving(**{kind: methods[kind]}) as port:
        refused = await refusal_of(_answer_of_none(port.stream(CALL)))
        assert refused.reason == "INTERNAL"


@pytest.mark.parametrize("path", [OTHER, "/test.Other/Call", "/grpc", "/"])
async def test_what_is_not_served_is_unimplemented(serving, path):
    async with serving(unary={CALL: echo}) as port:
        for call in (port.unary(path), anext(aiter(port.stream(path, ())))):
            refused = await refusal_of(call)
            assert refused.code is grpc.StatusCode.UNIMPLEMENTED
            assert refused.reason == "UNKNOWN_METHOD"


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_that_was_refused_can_be_tried_again_by_its_client(serving, kind):
    """gRPC does so by itself, unless it has seen something of an answer."""
    refusals = iter([Status(grpc.StatusCode.UNAVAILABLE, "not now", "TEST", b"")])

    async def answer(payload, _invocation):
        for status in refusals:
            raise RefusedError(status)
        return payload

    async def answers(payloads, invocation):
        async for payload in payloads:
            yield await answer(payload, invocation)

    methods = {"unary": {CALL: answer}, "stream": {CALL: answers}}
    retries = {
        "maxAttempts": 2,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": retries}]}
    options = [("grpc.service_config", json.dumps(config))]
    async with (
        serving(**{kind: methods[kind]}) as port,
        grpc.aio.insecure_channel(port.target, options=options) as channel,
    ):
        assert [each async for each in channel.unary_stream(CALL)(b"x")] == [b"x"]


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_cancelled_call_stops_its_work(serving, kind):
    sleeper = Sleeper()
    methods = {"unary": {CALL: sleeper.answer}, "stream": {CALL: sleeper.answers}}
    async with serving(**{kind: methods[kind]}) as port:
        call = port.stream(CALL)
        reading = asyncio.create_task(_drained(call))
        await sleeper.has_entered()
        call.cancel()
        await sleeper.was_stopped()
        await reading


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_whose_deadline_has_passed_stops_its_work(serving, kind):
    sleeper = Sleeper()
    methods = {"unary": {CALL: sleeper.answer}, "stream": {CALL: sleeper.answers}}
    async with serving(**{kind: methods[kind]}) as port:
        call = port.stream(CALL, timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            [each async for each in call]
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await sleeper.was_stopped()


async def test_a_call_whose_deadline_has_passed_before_its_turn_does_no_work(serving):
    worked, is_blocked = [], threading.Event()

    async def block(payload, _invocation):
        is_blocked.set()
        time.sleep(0.5)  # noqa: ASYNC251  # nobody else has a turn
        return payload

    async def work(payload, _invocation):
        worked.append(payload)
        return payload

    def call(target):
        with grpc.insecure_channel(target) as channel:
            channel.unary_unary(OTHER)(b"in time", timeout=10)
            blocking = channel.unary_unary(CALL).future(b"", timeout=10)
            is_blocked.wait()
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(OTHER)(b"late", timeout=0.1)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            blocking.result()
            channel.unary_unary(OTHER)(b"later", timeout=10)

    async with serving(unary={CALL: block, OTHER: work}) as port:
        await asyncio.to_thread(call, port.target)
    assert worked == [b"in time", b"later"]


@pytest.mark.parametrize("seconds", [0.2, None], ids=["deadline", "cancelled"])
@pytest.mark.parametrize("path", [CALL, OTHER], ids=["unary", "stream"])
async def test_who_called_is_known_even_when_an_abandoned_call_is_cleaned_up(
    serving, path, seconds
):
    peers, begun = [], 0

    async def sleep(_payload, invocation):
        nonlocal begun
        begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            peers.append(invocation.peer)

    async def endless(_payloads, invocation):
        # Generators inside others are cleaned up some time later.
        async for payload in _endless(invocation):
            yield payload

    async def _endless(invocation):
        nonlocal begun
        begun += 1
        try:
            while True:
                yield b"x" * 10_000
        finally:
            peers.append(invocation.peer)

    async with serving(unary={CALL: sleep}, stream={OTHER: endless}) as port:
        calls = [port.stream(path, timeout=seconds) for _ in range(10)]
        reading = [asyncio.create_task(_read_slowly(call)) for call in calls]
        if seconds is None:
            async with asyncio.timeout(10):
                while begun < len(calls):  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
        async with asyncio.timeout(10):
            while len(peers) < len(calls):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        await asyncio.wait(reading)
    assert {peer.rpartition(":")[0] for peer in peers} == {"ipv4:127.0.0.1"}


async def _read_slowly(call):
    with suppress(grpc.RpcError, asyncio.CancelledError):
        async for _ in call:
            await asyncio.sleep(0.1)


async def test_every_call_is_answered_whenever_it_ends(serving):
    # Some end just when an engine begins to look after calls that last.
    async def answer(payload, _invocation):
        await asyncio.sleep(int(payload) / 1000)
        return payload

    async with serving(unary={CALL: answer}) as port:
        payloads = [str(milliseconds).encode() for milliseconds in range(30, 120)]
        assert await asyncio.gather(*(port.unary(CALL, each) for each in payloads)) == payloads


async def test_a_lost_connection_stops_the_work(serving):
    sleeper = Sleeper()
    async with serving(unary={CALL: sleeper.answer, OTHER: echo}) as port:
        channel = grpc.aio.insecure_channel(port.target)
        reading = asyncio.create_task(_drained(channel.unary_stream(CALL)(b"")))
        await sleeper.has_entered()
        await channel.close()
        await sleeper.was_stopped()
        await reading
        assert await port.unary(OTHER, b"x") == b"x"


async def _drained(call):
    with suppress(grpc.RpcError, asyncio.CancelledError):
        async for _ in call:
            pass


async def test_calls_beyond_the_limit_are_refused_until_others_end(serving):
    sleeper = Sleeper()
    async with serving(unary={CALL: sleeper.answer, OTHER: echo}, max_in_flight=3) as port:
        calls = [port.unary(CALL) for _ in range(3)]
        await sleeper.has_entered(3)
        refused = await refusal_of(port.unary(OTHER))
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await sleeper.was_stopped()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await port.unary(OTHER, b"x") == b"x"
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)


async def test_calls_on_an_old_connection_finish_and_later_ones_go_over_another(serving):
    entered, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_payload, invocation):
        entered.set()
        await may_end.wait()
        return invocation.peer.encode()

    async def peer(_payload, invocation):
        return invocation.peer.encode()

    options = (("grpc.max_connection_age_ms", 200),)
    async with serving(unary={CALL: slow, OTHER: peer}, options=options) as port:
        in_flight = asyncio.ensure_future(_answer(port.unary(CALL)))
        async with asyncio.timeout(10):
            await entered.wait()
            first = await port.unary(OTHER)
            while await port.unary(OTHER) == first:
                pass
        may_end.set()
        assert await in_flight == first


async def test_a_port_that_is_taken_is_an_error(make_engine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = make_engine({}, (("grpc.so_reuseport", 0),), CallLimits())
        with pytest.raises(OSError, match="cannot listen on"):
            engine.listen(f"127.0.0.1:{taken.getsockname()[1]}", None)
        await engine.stop(0)


@asynccontextmanager
async def _one_call(serving):
    """An engine with a call in flight; the call, and what lets it end."""
    sleeper, may_end = Sleeper(), asyncio.Event()

    async def answer(payload, _invocation):
        sleeper.entered.release()
        await may_end.wait()
        return payload

    async with serving(unary={CALL: answer}) as port:
        call = asyncio.ensure_future(_answer(port.unary(CALL, b"last")))
        await sleeper.has_entered()
        yield port, call, may_end


async def test_calls_in_flight_finish_within_the_grace(serving):
    async with _one_call(serving) as (port, call, may_end):
        stopping = asyncio.create_task(port.engine.stop(30))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        may_end.set()
        assert await call == b"last"
        await stopping
        refused = await refusal_of(port.unary(CALL, timeout=5))
        assert refused.code is grpc.StatusCode.UNAVAILABLE


async def _answer(call):
    return await call


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_calls_are_stopped_after_the_grace(serving, kind):
    sleeper = Sleeper()
    methods = {"unary": {CALL: sleeper.answer}, "stream": {CALL: sleeper.answers}}
    async with serving(**{kind: methods[kind]}) as port:
        call = asyncio.ensure_future(_drained(port.stream(CALL)))
        await sleeper.has_entered()
        async with asyncio.timeout(10):
            await port.engine.stop(0.1)
            await sleeper.was_stopped()
            await call


@pytest.mark.parametrize("grace", [0, 30])
async def test_work_that_takes_its_time_to_stop_does_no_harm_to_an_engine_that_stops(
    serving, grace
):
    began, ended = asyncio.Event(), asyncio.Event()

    async def cleaning_up(payload, _invocation):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.2)
            ended.set()
        return payload

    async with serving(unary={CALL: cleaning_up}) as port:
        channel = grpc.aio.insecure_channel(port.target)
        call = asyncio.ensure_future(_drained(channel.unary_stream(CALL)(b"")))
        async with asyncio.timeout(10):
            await began.wait()
            await channel.close()
            await port.engine.stop(grace)
            await ended.wait()
        await call


async def test_stopping_twice_and_before_the_start_does_no_harm(make_engine):
    never_started = make_engine({}, (), CallLimits())
    await never_started.stop(0)
    engine = make_engine({CALL: None}, (), CallLimits())
    engine.listen("127.0.0.1:0", None)
    await engine.start()
    await asyncio.gather(engine.stop(0), engine.stop(0))
    await engine.stop(0)


async def test_who_waits_for_the_end_may_give_up_and_another_wait_for_it(serving):
    async with _one_call(serving) as (port, call, may_end):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await port.engine.stop(30)
        may_end.set()
        assert await call == b"last"
        async with asyncio.timeout(10):
            await port.engine.stop(0)
