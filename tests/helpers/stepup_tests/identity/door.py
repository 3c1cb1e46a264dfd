"""A server that answers who calls, over TLS, on either engine."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health, health_pb2
from stepup_tests.engines import CONNECTION_OF_ITS_OWN

from stepup.rpc.engine import CallLimits, UnaryMethod
from stepup.rpc.server.standard_services import reflection_methods


@dataclass
class Doorkeeper:
    """Answers with the caller's identities; `Health/Check` as health services do."""

    identification: object
    admitted: int = 0
    port: int = 0

    async def who(self, _payload, invocation):
        identities = await self.identification.identify(invocation)
        self.admitted += 1
        return "\n".join(sorted(identities)).encode()

    async def check(self, payload, invocation):
        await self.who(payload, invocation)
        return health_pb2.HealthCheckResponse(status=1).SerializeToString()

    def channel(self, authorities, client=None):
        """A connection of its own, with a client's certificate or without."""
        credentials = grpc.ssl_channel_credentials(
            authorities, client and client.key, client and client.chain
        )
        # Else channels with equal credentials share a connection, and a test sees another's
        # handshake.
        return grpc.aio.secure_channel(
            f"127.0.0.1:{self.port}", credentials, options=CONNECTION_OF_ITS_OWN
        )


@asynccontextmanager
async def doorkeeper(make_engine, identification, credentials):
    """Serve on a free port, with TLS, for as long as the block lasts."""
    door = Doorkeeper(identification)
    served = {
        "/any/Method": UnaryMethod(door.who),
        f"/{health.SERVICE_NAME}/Check": UnaryMethod(door.check),
    }
    served |= reflection_methods((health.SERVICE_NAME,))
    engine = make_engine(served, (("grpc.so_reuseport", 0),), CallLimits())
    door.port = engine.listen("127.0.0.1:0", credentials)
    await engine.start()
    try:
        yield door
    finally:
        await engine.stop(0)


async def who(channel, metadata=None):
    """Whom the server takes the caller for."""
    return (await channel.unary_unary("/any/Method")(b"", metadata=metadata, timeout=10)).decode()


async def refusal(channel, metadata=None):
    """The status with which the server refuses the caller."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await who(channel, metadata)
    return refused.value.code(), refused.value.details()
