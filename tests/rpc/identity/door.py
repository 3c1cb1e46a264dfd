"""A server that answers who calls, over TLS."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection

from stepup.domain.errors import CallerUnauthenticatedError
from stepup.rpc.call import Invocation

# Else channels with equal credentials share a connection, and a test sees another's handshake.
APART = (("grpc.use_local_subchannel_pool", 1),)


@dataclass
class Doorkeeper(grpc.GenericRpcHandler):
    """Answers every method with the caller's identities; `Health/Check` as health services do."""

    identification: object
    admitted: int = 0
    port: int = 0

    def service(self, handler_call_details):
        is_check = handler_call_details.method == f"/{health.SERVICE_NAME}/Check"

        async def answer(_payload, context):
            invocation = Invocation(
                context.peer, tuple(context.invocation_metadata()), context.auth_context
            )
            try:
                identities = await self.identification.identify(invocation)
            except CallerUnauthenticatedError as error:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            self.admitted += 1
            if is_check:
                return health_pb2.HealthCheckResponse(status=1).SerializeToString()
            return "\n".join(sorted(identities)).encode()

        return grpc.unary_unary_rpc_method_handler(answer)

    def channel(self, authorities, client=None):
        """A connection of its own, with a client's certificate or without."""
        credentials = grpc.ssl_channel_credentials(
            authorities, client and client.key, client and client.chain
        )
        return grpc.aio.secure_channel(f"localhost:{self.port}", credentials, options=APART)


@asynccontextmanager
async def doorkeeper(identification, credentials):
    """Serve on a free port, with TLS, for as long as the block lasts."""
    server, handler = grpc.aio.server(), Doorkeeper(identification)
    reflection.enable_server_reflection((health.SERVICE_NAME,), server)
    server.add_generic_rpc_handlers((handler,))
    handler.port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    try:
        yield handler
    finally:
        await server.stop(0)


async def who(channel, metadata=None):
    """Whom the server takes the caller for."""
    return (await channel.unary_unary("/any/Method")(b"", metadata=metadata, timeout=10)).decode()


async def refusal(channel, metadata=None):
    """The status with which the server refuses the caller."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await who(channel, metadata)
    return refused.value.code(), refused.value.details()
