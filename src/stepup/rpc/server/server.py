"""The gRPC server: all services on one engine."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.descriptor import MethodDescriptor

from stepup.domain.callers import Demands
from stepup.domain.challenge_rights import ANSWER_CHALLENGE, CHECK_STEP_UP
from stepup.domain.outsiders import outsiders_of
from stepup.rpc.engine import (
    CallLimits,
    Engine,
    Invocation,
    MakeEngine,
    StreamMethod,
    UnaryMethod,
    only,
)
from stepup.rpc.engine.aio import AioEngine
from stepup.rpc.handlers.audit import AuditHandlers
from stepup.rpc.handlers.challenge import ChallengeHandlers
from stepup.rpc.handlers.enrollment import EnrollmentHandlers
from stepup.rpc.handlers.people import PeopleHandlers
from stepup.rpc.handlers.policy import PolicyHandlers
from stepup.rpc.handlers.portal import PortalHandlers
from stepup.rpc.handlers.step_up import StepUpHandlers
from stepup.rpc.pipeline.call import Method, path_of
from stepup.rpc.pipeline.pipeline import Pipeline
from stepup.rpc.server.connections import (
    ConnectionLimits,
    end_listening,
    remove_stale_socket,
    restrict_socket,
)
from stepup.rpc.server.standard_services import Health, reflection_methods
from stepup.service.upkeep.dependencies import Condition
from stepup.system.loopback import is_loopback
from stepup.v1 import (
    audit_service_pb2,
    challenge_service_pb2,
    enrollment_service_pb2,
    people_service_pb2,
    policy_service_pb2,
    portal_service_pb2,
    step_up_service_pb2,
)

MAX_MESSAGE_BYTES = 128 * 1024
"""A batch of 100 checks with receipts fits. Incomplete messages take at most this size times
`CallLimits.half_open` of the memory of a worker (S18, S26)."""
MAX_METADATA_BYTES = 16 * 1024
MAX_STREAMS = 100
"""Calls at a time on one connection: far fewer than `CallLimits.in_flight` (S26)."""
_HANDSHAKES_SECONDS = 0.5
"""How long a stopping server waits for the first calls of new connections."""
_LIMITS = ConnectionLimits()

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
)
STEP_UP = step_up_service_pb2.DESCRIPTOR.services_by_name["StepUpService"].full_name
AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
PORTAL = portal_service_pb2.DESCRIPTOR.services_by_name["PortalService"].full_name
VERIFY_OTP = f"{STEP_UP}/VerifyOtp"
"""The health name of the method that accepts codes, which needs more than a decision."""
_PARTS = (
    *("sql", "redis", "sql_writes", "redis_writes", "decision_log"),
    *("certificate", "token_issuers"),
)
PROTOS = (
    step_up_service_pb2,
    challenge_service_pb2,
    enrollment_service_pb2,
    people_service_pb2,
    policy_service_pb2,
    audit_service_pb2,
    portal_service_pb2,
)
SERVICES = tuple(
    service.full_name for proto in PROTOS for service in proto.DESCRIPTOR.services_by_name.values()
)

HEALTH_NAMES = ("", *SERVICES, VERIFY_OTP, *_PARTS)
"""The names of health; the empty name is the whole server."""
_REQUIRED_METHODS = {
    "CreateChallenge": CHECK_STEP_UP,
    "ListChallenges": ANSWER_CHALLENGE,
}
"""The other method that a caller of a method must be permitted to use, for the same tenant and
operations. So a caller cannot ask for the approval of an action that the caller may not check."""
_FOR_EVERY_TENANT = {"ListTenants"}
"""Methods for callers with a rule for all tenants."""
_WAITING = {"AwaitChallenge"}
"""Methods whose calls wait for people."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of all services."""

    step_up: StepUpHandlers
    challenge: ChallengeHandlers
    enrollment: EnrollmentHandlers
    people: PeopleHandlers
    policy: PolicyHandlers
    audit: AuditHandlers
    portal: PortalHandlers


def methods(handlers: Handlers) -> Iterable[Method]:
    """All methods of all services. The handler of `CheckStepUp` is `check_step_up`."""
    implementations = (
        handlers.step_up,
        handlers.challenge,
        handlers.enrollment,
        handlers.people,
        handlers.policy,
        handlers.audit,
        handlers.portal,
    )
    for proto, implementation in zip(PROTOS, implementations, strict=True):
        [service] = proto.DESCRIPTOR.services_by_name.values()
        for rpc in service.methods:
            yield Method(
                service=service.full_name,
                name=rpc.name,
                request=rpc.input_type._concrete_class,  # noqa: SLF001  # protobuf has no public name for it
                handler=getattr(implementation, _snake_case(rpc.name)),
                streams=rpc.server_streaming,
                required_method=_REQUIRED_METHODS.get(rpc.name),
                waits=rpc.name in _WAITING,
            )


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Server:
    """Serves all methods, health and reflection on one address.

    Args:
        shares_port: whether other processes that also set it may listen on the same port; the
            kernel spreads connections over them. If False, a port in use is an error.
        trusts_anyone: whether it may listen without TLS on an address that other machines reach
            (S15).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        handlers: Handlers,
        make_engine: MakeEngine = AioEngine,
        limits: ConnectionLimits = _LIMITS,
        *,
        shares_port: bool = False,
        trusts_anyone: bool = False,
    ) -> None:
        self._shares_port = shares_port
        self._trusts_anyone = trusts_anyone
        self._port = 0
        self._health = Health(HEALTH_NAMES)
        self._waits = handlers.challenge.waits
        served = {f"/{method.full_name}": _served(pipeline, method) for method in methods(handlers)}
        self._engine: Engine = make_engine(
            {**served, **self._health.methods, **reflection_methods(SERVICES)},
            (*_OPTIONS, *limits.options, ("grpc.so_reuseport", int(shares_port))),
            CallLimits(metadata_bytes=MAX_METADATA_BYTES),
        )

    async def start(
        self, host: str, port: int, credentials: grpc.ServerCredentials | None = None
    ) -> int:
        """Listen on an address, without credentials on loopback only; return the port.

        Health answers NOT_SERVING until `report`.

        Raises:
            ValueError: other machines reach the address, and TLS is off (S15).
            OSError: the address cannot be bound.
        """
        if credentials is None and not is_loopback(host) and not self._trusts_anyone:
            raise ValueError(f"{host} is not a loopback address: TLS is required (S15)")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._port = self._engine.listen(address, credentials)
        await self._engine.start()
        return self._port

    async def start_on_socket(
        self, path: Path, credentials: grpc.ServerCredentials | None = None, *, to_group: bool
    ) -> None:
        """Listen on a unix socket; only its owner can connect, with `to_group` also its group.

        Health answers NOT_SERVING until `report`. The socket is removed at the end.

        Raises:
            OSError: the socket cannot be bound. No socket or file of another program is removed.
        """
        remove_stale_socket(path)
        self._engine.listen(f"unix:{path}", credentials)
        restrict_socket(path, to_group=to_group)
        await self._engine.start()

    @property
    def serving(self) -> frozenset[str]:
        """The health names that serve; the empty name is the whole server."""
        return self._health.serving

    async def report(self, condition: Condition) -> None:
        """Set what health answers (S17).

        No service serves while no caller can be authenticated. The whole server and
        `StepUpService` serve while decisions can be made and recorded, also without Redis or while
        a store refuses writes: a client that health sends away would lose the decisions that need
        neither. `VerifyOtp` and `PortalService` serve while both stores accept writes, the audit
        service while SQL can be read, and the other services while SQL accepts writes. Each part
        has its own name.
        """
        admits = condition.admits
        writes = admits and condition.sql and condition.sql_writes
        redis_writes = condition.redis and condition.redis_writes
        serving = {
            **dict.fromkeys(SERVICES, writes),
            AUDIT: admits and condition.sql,
            **dict.fromkeys(("", STEP_UP), admits and condition.decides),
            **dict.fromkeys((VERIFY_OTP, PORTAL), writes and redis_writes),
            **{part: getattr(condition, part) for part in _PARTS},
        }
        await self._health.set_serving(name for name, serves in serving.items() if serves)

    async def stop(self, grace_seconds: float) -> None:
        """Answer NOT_SERVING, accept no new calls, and let calls in flight finish within the grace.

        Waits for challenges end at once, because they would last until the end of the grace.

        A server that shares its port first leaves new connections to the other processes.
        """
        await self._health.end()
        if self._shares_port:
            end_listening(self._port)
            await asyncio.sleep(_HANDSHAKES_SECONDS)
        # Now, and not before: their clients call again at once, and this port is closed to them.
        self._waits.end_all()
        await self._engine.stop(grace_seconds)


def _served(pipeline: Pipeline, method: Method) -> UnaryMethod | StreamMethod:
    if not method.streams:
        return UnaryMethod(partial(pipeline.unary, method))

    async def answers(
        payloads: AsyncIterator[bytes], invocation: Invocation
    ) -> AsyncGenerator[bytes]:
        # Close the generator here: otherwise its work ends some time later.
        async with aclosing(pipeline.stream(method, await only(payloads), invocation)) as responses:
            async for response in responses:
                yield response
                del response

    return StreamMethod(answers, waits=method.waits)


def _demands(method: MethodDescriptor) -> Demands:
    fields = method.input_type.fields_by_name
    has_actor = "actor" in fields
    path = path_of(method.containing_service.full_name, method.name)
    return Demands(
        path,
        tenant=has_actor or "tenant_id" in fields,
        # A batch has its operations in `checks`, and a new challenge in `items`.
        operation=any(name in fields for name in ("operation", "checks", "items")),
        claims=has_actor,
        required_method=_REQUIRED_METHODS.get(method.name),
        outsiders=outsiders_of(path),
        every_tenant=method.name in _FOR_EVERY_TENANT,
    )


DEMANDS: Final[Mapping[str, Demands]] = {
    demands.method: demands
    for proto in PROTOS
    for service in proto.DESCRIPTOR.services_by_name.values()
    for demands in map(_demands, service.methods)
}
"""The demands of all methods, by path."""
