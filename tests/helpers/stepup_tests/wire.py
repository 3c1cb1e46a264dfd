"""The real server on loopback, and what a client that is not ours sees of it."""

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from stepup.domain.actor import Deprovisioning, Operator
from stepup.domain.callers import Callers
from stepup.rpc.pipeline.pipeline import Pipeline
from stepup.rpc.pipeline.portal_calls import PortalCalls
from stepup.rpc.server.server import Server
from stepup.service.portal.resolve import ResolvePortalSession
from stepup.service.portal.wizard_of_challenge import DemandNoAuthenticator
from stepup.service.upkeep.dependencies import Condition
from stepup.v1 import (
    actor_pb2,
    audit_service_pb2_grpc,
    challenge_service_pb2_grpc,
    enrollment_service_pb2_grpc,
    people_service_pb2_grpc,
    policy_service_pb2_grpc,
    portal_service_pb2_grpc,
    step_up_service_pb2_grpc,
)
from stepup.wiring.credentials import LOCAL_CALLER, admit_local_caller
from stepup_tests.engines import engine_under_test

ALL_WELL = Condition(**{each.name: True for each in fields(Condition)})


class Client:
    """The generated stubs on one channel; `call` sends bytes as they are."""

    def __init__(self, target, options=()):
        self.channel = grpc.aio.insecure_channel(target, options=options)
        self.step_up = step_up_service_pb2_grpc.StepUpServiceStub(self.channel)
        self.challenge = challenge_service_pb2_grpc.ChallengeServiceStub(self.channel)
        self.enrollment = enrollment_service_pb2_grpc.EnrollmentServiceStub(self.channel)
        self.people = people_service_pb2_grpc.PeopleServiceStub(self.channel)
        self.policy = policy_service_pb2_grpc.PolicyServiceStub(self.channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(self.channel)
        self.portal = portal_service_pb2_grpc.PortalServiceStub(self.channel)

    async def call(self, path, payload, metadata=None):
        """Call `<service>/<method>` with bytes; returns the bytes of the answer."""
        return await self.channel.unary_unary(f"/{path}")(payload, metadata=metadata)

    async def stream(self, path, payload):
        """Call a method that answers with a stream."""
        return [answer async for answer in self.channel.unary_stream(f"/{path}")(payload)]

    async def close(self):
        await self.channel.close()


@dataclass
class Served:
    """A server that listens, and its address."""

    server: Server
    target: str


ANONYMOUS = Callers([LOCAL_CALLER])


def portal_calls_of(worker, find_caller=ANONYMOUS.named):
    """What brings the person of a portal session into the calls of a worker."""
    return PortalCalls(
        ResolvePortalSession(worker.portal_sessions, worker.database),
        DemandNoAuthenticator(worker.database),
        find_caller,
    )


def pipeline_of(
    worker,
    admit=admit_local_caller,
    begin_span=None,
    clock=None,
    find_caller=ANONYMOUS.named,
):
    """The road of a worker's calls."""
    application = worker.application
    return Pipeline(
        admit,
        application.refused_claims,
        application.limits,
        application.known_tenants,
        clock or worker.clock,
        portal_calls=portal_calls_of(worker, find_caller),
        begin_span=begin_span,
    )


@asynccontextmanager
async def served(
    worker,
    admit=admit_local_caller,
    begin_span=None,
    make_engine=None,
    find_caller=ANONYMOUS.named,
):
    """Serve a worker's handlers on a free port for as long as the block lasts."""
    server = Server(
        pipeline_of(worker, admit, begin_span, find_caller=find_caller),
        worker.application.handlers,
        make_engine or engine_under_test(),
    )
    port = await server.start("127.0.0.1", 0)
    await server.report(ALL_WELL)
    try:
        yield Served(server, f"127.0.0.1:{port}")
    finally:
        await server.stop(0)


@dataclass
class Refusal:
    """How a call ended without an answer."""

    code: grpc.StatusCode
    message: str
    details: dict = field(default_factory=dict)

    @property
    def reason(self):
        return self.details["ErrorInfo"].reason

    @property
    def domain(self):
        return self.details["ErrorInfo"].domain

    @property
    def fields(self):
        return [violation.field for violation in self.details["BadRequest"].field_violations]


async def refusal_of(call):
    """Await a call that must not be answered."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError(f"answered: {answer!r}")


def refusal(error):
    """What an error of a call says, in its status and in its details."""
    trailers = dict(error.trailing_metadata() or ())
    status = Status.FromString(trailers.get("grpc-status-details-bin", b""))
    details = {}
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
        details[name] = message
    if details:
        assert (status.code, status.message) == (error.code().value[0], error.details())
    return Refusal(error.code(), error.details(), details)


def on_wire(actor):
    """The actor as a message."""
    if isinstance(actor, Operator):
        operator = actor_pb2.Operator(name=actor.name, reason=actor.reason)
        return actor_pb2.ActorContext(tenant_id=actor.tenant_id, operator=operator)
    if isinstance(actor, Deprovisioning):
        return actor_pb2.ActorContext(tenant_id=actor.tenant_id)
    return actor_pb2.ActorContext(
        tenant_id=actor.tenant_id,
        user_id=actor.user_id,
        session_id=actor.session_id,
        account_type=actor_pb2.AccountType.Value(f"ACCOUNT_TYPE_{actor.account_type.name}"),
        role=actor_pb2.Role.Value(f"ROLE_{actor.role.name}"),
        team=actor_pb2.Team.Value(f"TEAM_{actor.team.name}"),
        retry_receipt=actor.retry_receipt.token if actor.retry_receipt else "",
        playbook_run=_run_on_wire(actor.playbook_run) if actor.playbook_run else None,
        challenge_id=str(actor.challenge_id) if actor.challenge_id else "",
    )


def _run_on_wire(run):
    return actor_pb2.PlaybookRun(
        playbook_id=run.playbook_id,
        run_id=run.run_id,
        trigger=actor_pb2.PlaybookTrigger.Value(f"PLAYBOOK_TRIGGER_{run.trigger.name}"),
    )
