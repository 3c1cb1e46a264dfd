"""The standard services of gRPC: health and reflection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from stepup.rpc.engine import Invocation, Methods, StreamMethod, UnaryMethod, only
from stepup.rpc.wire.decode import decoded
from stepup.rpc.wire.errors import RefusedError, unknown_service

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = "grpc.reflection.v1.ServerReflection"
_ServingStatus = health_pb2.HealthCheckResponse
# The stubs do not know them yet.
_ListRequest: Any = health_pb2.HealthListRequest  # type: ignore[attr-defined]
_ListResponse: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]


class Health:
    """`grpc.health.v1.Health`: which services serve. The name `""` is the whole server.

    All names begin with NOT_SERVING.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._statuses: dict[str, Any] = dict.fromkeys(names, _ServingStatus.NOT_SERVING)
        self._changed = asyncio.Condition()
        self._has_ended = False

    @property
    def serving(self) -> frozenset[str]:
        """The names that serve; the empty name is the whole server."""
        return frozenset(
            name for name, status in self._statuses.items() if status == _ServingStatus.SERVING
        )

    async def set_serving(self, serving: Iterable[str]) -> None:
        """Set the names that serve; all others do not. After `end`, this has no effect."""
        if not self._has_ended:
            await self._set(frozenset(serving))

    async def end(self) -> None:
        """Answer NOT_SERVING from now on, and end all calls of Watch."""
        self._has_ended = True
        await self._set(frozenset())

    async def _set(self, serving: frozenset[str]) -> None:
        async with self._changed:
            for name in self._statuses:
                self._statuses[name] = (
                    _ServingStatus.SERVING if name in serving else _ServingStatus.NOT_SERVING
                )
            self._changed.notify_all()

    @property
    def methods(self) -> Methods:
        """The methods of the service."""
        return {
            f"/{HEALTH}/Check": UnaryMethod(self._check, exempt=True),
            f"/{HEALTH}/List": UnaryMethod(self._list, exempt=True),
            f"/{HEALTH}/Watch": StreamMethod(self._watch, exempt=True),
        }

    async def _check(self, payload: bytes, _invocation: Invocation) -> bytes:
        service = decoded(health_pb2.HealthCheckRequest, payload).service
        if service not in self._statuses:
            raise RefusedError(unknown_service())
        return _ServingStatus(status=self._statuses[service]).SerializeToString()

    async def _list(self, payload: bytes, _invocation: Invocation) -> bytes:
        decoded(_ListRequest, payload)
        statuses = {name: _ServingStatus(status=status) for name, status in self._statuses.items()}
        response: bytes = _ListResponse(statuses=statuses).SerializeToString()
        return response

    async def _watch(
        self, payloads: AsyncIterator[bytes], _invocation: Invocation
    ) -> AsyncGenerator[bytes]:
        service = decoded(health_pb2.HealthCheckRequest, await only(payloads)).service
        sent = None
        while True:
            status = self._statuses.get(service, _ServingStatus.SERVICE_UNKNOWN)
            if status != sent:
                yield _ServingStatus(status=status).SerializeToString()
                sent = status
                continue  # the status may have changed while it was sent
            async with self._changed:
                if self._has_ended:
                    return  # a stopping server would wait for this call
                if self._statuses.get(service, _ServingStatus.SERVICE_UNKNOWN) == sent:
                    await self._changed.wait()


def reflection_methods(services: Iterable[str]) -> Methods:
    """The methods of reflection, v1 and v1alpha, for services, health and reflection."""
    names = (*services, HEALTH, REFLECTION, reflection.SERVICE_NAME)
    answering = reflection.aio.ReflectionServicer(names, _pool_with_reflection_v1())

    async def answers(
        payloads: AsyncIterator[bytes], _invocation: Invocation
    ) -> AsyncGenerator[bytes]:
        requests = (
            decoded(reflection_pb2.ServerReflectionRequest, payload) async for payload in payloads
        )
        stream: Any = answering.ServerReflectionInfo(requests, None)
        async for response in stream:
            yield response.SerializeToString()

    return {
        f"/{name}/ServerReflectionInfo": StreamMethod(answers, exempt=True)
        for name in (REFLECTION, reflection.SERVICE_NAME)
    }


def _pool_with_reflection_v1() -> DescriptorPool:
    """The default pool with the descriptor of version v1, which grpcio lacks.

    The messages of v1 are those of v1alpha in another package.
    """
    file = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    old, new = file.package, REFLECTION.rpartition(".")[0]
    file.name = f"{new.replace('.', '/')}/reflection.proto"
    file.package = new
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace(old, new)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    pool = Default()
    try:
        pool.FindFileByName(file.name)  # another library may have added it
    except KeyError:
        pool.AddSerializedFile(file.SerializeToString())
    return pool
