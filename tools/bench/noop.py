"""The yardsticks: servers that decode a check, and answer the same whatever is asked.

`aio` is grpc.aio as its own documentation has it; `core` is our engine with nothing on it.
"""

import argparse
import asyncio

import grpc

from stepup.rpc.engine import CallLimits, UnaryMethod
from stepup.rpc.engine.core import CoreEngine
from stepup.v1 import step_up_service_pb2 as pb
from stepup.v1 import step_up_service_pb2_grpc

_ADDRESS = "127.0.0.1:0"
_PATH = "/stepup.v1.StepUpService/CheckStepUp"


def _answer():
    return pb.CheckStepUpResponse(decision=pb.DECISION_ALLOWED, reason=pb.DECISION_REASON_ELEVATED)


class Noop(step_up_service_pb2_grpc.StepUpServiceServicer):
    """Allows everything; serialises the answer for each call."""

    async def CheckStepUp(self, _request, _context):  # noqa: N802  # the method's name
        return _answer()


def _aio():
    server = grpc.aio.server()
    step_up_service_pb2_grpc.add_StepUpServiceServicer_to_server(Noop(), server)
    return server, server.add_insecure_port(_ADDRESS)


def _core():
    async def answer(payload, _invocation):
        pb.CheckStepUpRequest.FromString(payload)
        return _answer().SerializeToString()

    server = CoreEngine({_PATH: UnaryMethod(answer)}, (), CallLimits())
    return server, server.listen(_ADDRESS, None)


async def _serve(make):
    server, port = make()
    await server.start()
    print(f"noop is listening on 127.0.0.1:{port}", flush=True)  # noqa: T201  # who starts it reads it
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=("aio", "core"))
    asyncio.run(_serve({"aio": _aio, "core": _core}[parser.parse_args().engine]))
