"""The gRPC server on grpc.aio: registers every service, and carries bytes to the pipeline."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from stepup.loopback import is_loopback
from stepup.rpc.audit import AuditHandlers
from stepup.rpc.call import Invocation
from stepup.rpc.enrollment import EnrollmentHandlers
from stepup.rpc.errors import RefusedError
from stepup.rpc.identity.server_credentials import CONNECTION_OPTIONS
from stepup.rpc.pipeline import Method, Pipeline, StreamMethod, UnaryMethod
from stepup.rpc.policy import PolicyHandlers
from stepup.rpc.step_up import StepUpHandlers
from stepup.v1 import (
    audit_service_pb2,
    enrollment_service_pb2,
    policy_service_pb2,
    step_up_service_pb2,
)

MAX_MESSAGE_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_CALLS_IN_FLIGHT = 1000

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_CALLS_IN_FLIGHT),
    *CONNECTION_OPTIONS,
    # A port that is taken is an error, not a second server that gets every other connection.
    ("grpc.so_reuseport", 0),
)
PROTOS = (step_up_service_pb2, enrollment_service_pb2, policy_service_pb2, audit_service_pb2)
SERVICES = tuple(
    service.full_name for proto in PROTOS for service in proto.DESCRIPTOR.services_by_name.values()
)


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of all services."""

    step_up: StepUpHandlers
    enrollment: EnrollmentHandlers
    policy: PolicyHandlers
    audit: AuditHandlers


def methods(handlers: Handlers) -> Iterable[Method]:
    """Every method of every service; the handler of `CheckStepUp` is `check_step_up`."""
    implementations = (handlers.step_up, handlers.enrollment, handlers.policy, handlers.audit)
    for proto, implementation in zip(PROTOS, implementations, strict=True):
        [service] = proto.DESCRIPTOR.services_by_name.values()
        for rpc in service.methods:
            kind = StreamMethod if rpc.server_streaming else UnaryMethod
            yield kind(
                service=service.full_name,
                name=rpc.name,
                request=rpc.input_type._concrete_class,  # noqa: SLF001  # protobuf names no other way
                handler=getattr(implementation, _snake_case(rpc.name)),
            )


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Server:
    """Serves all methods, health and reflection on one address."""

    def __init__(self, pipeline: Pipeline, handlers: Handlers) -> None:
        self._server = grpc.aio.server(
            options=_OPTIONS, maximum_concurrent_rpcs=MAX_CALLS_IN_FLIGHT
        )
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers(tuple(_generic_handlers(pipeline, methods(handlers))))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )

    async def start(
        self, host: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Listen, without credentials on a loopback address only; returns the port.

        Health says NOT_SERVING until `set_serving`.

        Raises:
            ValueError: the address can be reached from other machines, and there is no TLS (S15).
            OSError: it cannot be listened on.
        """
        if credentials is None and not is_loopback(host):
            raise ValueError(f"{host} is no loopback address: that needs tls (S15)")
        await self.set_serving(False)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = (
                self._server.add_insecure_port(address)
                if credentials is None
                else self._server.add_secure_port(address, credentials)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await self._server.start()
        return bound

    async def set_serving(self, serving: bool) -> None:
        """Set what health checks are told, for every service and for `""`."""
        status = health_pb2.HealthCheckResponse
        for name in ("", *SERVICES):
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new calls, and let those in flight finish within the grace."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


def _generic_handlers(
    pipeline: Pipeline, served: Iterable[Method]
) -> Iterable[grpc.GenericRpcHandler]:
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = defaultdict(dict)
    for method in served:
        # Without (de)serializers the handlers get bytes: what is malformed is ours to answer (S18).
        services[method.service][method.name] = (
            grpc.unary_unary_rpc_method_handler(_unary(pipeline, method))
            if isinstance(method, UnaryMethod)
            else grpc.unary_stream_rpc_method_handler(_stream(pipeline, method))
        )
    for service, handlers in services.items():
        yield grpc.method_handlers_generic_handler(service, handlers)


def _unary(
    pipeline: Pipeline, method: UnaryMethod
) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]:
    async def serve(payload: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            return await pipeline.unary(method, payload, _invocation(context))
        except RefusedError as refused:
            return await _abort(context, refused)

    return serve


def _stream(
    pipeline: Pipeline, method: StreamMethod
) -> Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], AsyncIterator[bytes]]:
    async def serve(
        payload: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        try:
            async for response in pipeline.stream(method, payload, _invocation(context)):
                yield response
        except RefusedError as refused:
            await _abort(context, refused)

    return serve


def _invocation(context: grpc.aio.ServicerContext[bytes, bytes]) -> Invocation:
    return Invocation(
        context.peer(), tuple(context.invocation_metadata() or ()), context.auth_context
    )


async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], refused: RefusedError) -> bytes:
    status = refused.status
    trailers = (("grpc-status-details-bin", status.details),)
    return await context.abort(status.code, status.message, trailers)
