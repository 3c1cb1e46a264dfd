"""The yardstick: a grpc.aio server that decodes a check, and answers the same whatever is asked."""

import asyncio

import grpc

from stepup.v1 import step_up_service_pb2 as pb
from stepup.v1 import step_up_service_pb2_grpc


class Noop(step_up_service_pb2_grpc.StepUpServiceServicer):
    """Allows everything; the answer is serialised anew for each call."""

    async def CheckStepUp(self, _request, _context):  # noqa: N802  # the method's name
        return pb.CheckStepUpResponse(
            decision=pb.DECISION_ALLOWED, reason=pb.DECISION_REASON_ELEVATED
        )


async def _serve():
    server = grpc.aio.server()
    step_up_service_pb2_grpc.add_StepUpServiceServicer_to_server(Noop(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"noop is listening on 127.0.0.1:{port}", flush=True)  # noqa: T201  # who starts it reads it
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())
