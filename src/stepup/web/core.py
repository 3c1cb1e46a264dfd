"""The core, as the web process reaches it."""

import asyncio
import time
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

from stepup.client import AsyncStepUpClient, CallerCredentials
from stepup.client.asynchronous.io import open_channel
from stepup.client.channels import Endpoint
from stepup.settings import ConfigurationError
from stepup.settings.web import CoreSettings

_CALL_SECONDS: Final = 5.0
_PROBE_SECONDS: Final = 2.0
_HEALTH: Final = "/grpc.health.v1.Health/Check"


class Core:
    """The client of the core, and whether the core serves.

    Raises:
        ConfigurationError: the credentials cannot be used, or the target needs some.
    """

    def __init__(self, settings: CoreSettings) -> None:
        try:
            credentials = _credentials(settings)
            insecure = settings.insecure
            self._endpoint = Endpoint(settings.target, credentials, insecure=insecure)
            self.client = AsyncStepUpClient(
                settings.target, credentials, insecure=insecure, timeout=_CALL_SECONDS
            )
        except ValueError as error:
            raise ConfigurationError(f"core: {error}") from error
        self._probing = asyncio.Lock()
        self._probed_at = float("-inf")
        self._serves = False

    async def serves(self) -> bool:
        """Whether the core can decide now. It is asked once in two seconds, by how many so ever."""
        async with self._probing:
            if time.monotonic() - self._probed_at > _PROBE_SECONDS:
                self._serves = await self._probe()
                self._probed_at = time.monotonic()
            return self._serves

    async def _probe(self) -> bool:
        self._endpoint.renew()
        try:
            return await is_serving(self._endpoint, _PROBE_SECONDS)
        except grpc.RpcError:
            return False


async def is_serving(endpoint: Endpoint, seconds: float) -> bool:
    """Ask a server, on a connection of its own, whether it can decide now.

    Args:
        endpoint: where the server is.
        seconds: how long the answer may take.

    Raises:
        AioRpcError: there is no answer, or the server refuses the caller.
    """
    channel = open_channel(
        endpoint.target, endpoint.channel_credentials(), endpoint.channel_options()
    )
    async with channel:
        check = channel.unary_unary(
            _HEALTH,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = await check(health_pb2.HealthCheckRequest(), timeout=seconds)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _credentials(settings: CoreSettings) -> CallerCredentials | None:
    if settings.certificate is None and settings.token_file is None:
        if settings.private_key is not None or settings.authorities is not None:
            raise ValueError("private_key and authorities need a certificate or a token_file")
        return None
    return CallerCredentials(
        certificate=settings.certificate,
        private_key=settings.private_key,
        authorities=settings.authorities,
        token=settings.token_file,
    )
