"""What `check` of the clients costs, against the generated stub on the same channel options.

The server is the yardstick `noop` on our engine, in a process of its own: the faster the server,
the more the client shows. Both sides build a request for each call. Rounds alternate, so that a
machine that slows down slows both. The figures are processor time of this process, gRPC's threads
included: the time of a call is that of the server and the network, too.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import grpc

from stepup.client import ActorContext, AsyncStepUpClient, StepUpClient
from stepup.client.channels import Endpoint
from stepup.v1 import step_up_service_pb2 as pb
from stepup.v1.step_up_service_pb2_grpc import StepUpServiceStub

_ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
_OPERATION, _TARGET = "response.run_osquery", "host-7"
_DEADLINE = 5


@dataclass(frozen=True)
class Cost:
    """Microseconds of a call: the median of the rounds.

    `ratio` is the median of the rounds' own ratios, of two neighbours in time.
    """

    name: str
    stub: float
    client: float
    ratio: float


def measure(rounds, calls):
    with subprocess.Popen(
        (sys.executable, "-m", "tools.bench.noop", "core"), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            address = server.stdout.readline().split()[-1]
            yield asyncio.run(_asynchronous(address, rounds, calls, at_once=1))
            yield asyncio.run(_asynchronous(address, rounds, calls, at_once=32))
            yield _synchronous(address, rounds, calls)
        finally:
            server.kill()


def _request():
    return pb.CheckStepUpRequest(actor=_ACTOR, operation=_OPERATION, target=_TARGET)


async def _asynchronous(address, rounds, calls, at_once):
    options = Endpoint(address).channel_options()
    async with (
        AsyncStepUpClient(address) as stepup,
        grpc.aio.insecure_channel(address, options) as channel,
    ):
        stub = StepUpServiceStub(channel)

        async def with_stub():
            for _ in range(calls // at_once):
                await stub.CheckStepUp(_request(), timeout=_DEADLINE)

        async def with_client():
            for _ in range(calls // at_once):
                await stepup.check(_ACTOR, _OPERATION, target=_TARGET)

        async def timed(make):
            begun_at = time.process_time()
            await asyncio.gather(*(make() for _ in range(at_once)))
            return (time.process_time() - begun_at) / calls * 1e6

        await timed(with_stub), await timed(with_client)  # open both connections
        pairs = [(await timed(with_stub), await timed(with_client)) for _ in range(rounds)]
        return _cost(f"asynchronous, {at_once} at once", pairs)


def _synchronous(address, rounds, calls):
    options = Endpoint(address).channel_options()
    with StepUpClient(address) as stepup, grpc.insecure_channel(address, options) as channel:
        stub = StepUpServiceStub(channel)

        def timed(call):
            begun_at = time.process_time()
            for _ in range(calls):
                call()
            return (time.process_time() - begun_at) / calls * 1e6

        def with_stub():
            stub.CheckStepUp(_request(), timeout=_DEADLINE)

        def with_client():
            stepup.check(_ACTOR, _OPERATION, target=_TARGET)

        timed(with_stub), timed(with_client)
        return _cost("synchronous", [(timed(with_stub), timed(with_client)) for _ in range(rounds)])


def _cost(name, pairs):
    stubs, clients = zip(*pairs, strict=True)
    return Cost(
        name,
        statistics.median(stubs),
        statistics.median(clients),
        statistics.median(client / stub for stub, client in pairs),
    )
