"""A service in this process: it decides in memory, and real clients call it over gRPC."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from stepup.client import rpcs
from stepup.client.asynchronous.client import AsyncStepUpClient
from stepup.client.rpc import Rpc
from stepup.client.synchronous.client import StepUpClient
from stepup.client.testing.fake_service import (
    CODE,
    LIFETIME,
    Asked,
    Failure,
    FakeService,
    Need,
    session_of,
    user_of,
)
from stepup.v1.challenge_service_pb2 import (
    CHALLENGE_STATE_PENDING,
    AwaitChallengeRequest,
    AwaitChallengeResponse,
    Challenge,
)

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from stepup.client.answers import Answer
    from stepup.v1.actor_pb2 import ActorContext

_CALLS_AT_ONCE: Final = 32
_LOOK_EVERY: Final = 0.1


class FakeStepUp:
    """A service for one test. Every person has an authenticator, which shows `CODE`.

        with FakeStepUp() as fake:
            fake.need("response.run_osquery")
            stepup = fake.client()
            ...

    Nothing needs a code until `need` says so. Checks, codes, sign-outs, receipts and challenges
    work as those of the service; other methods are not implemented. It has no exemptions and no
    locks: script their answers.

    Attributes:
        target: the address, also for clients of other languages.
    """

    def __init__(self) -> None:
        self.target = ""
        self._service = FakeService()
        self._failure: Failure | None = None
        self._running = Event()
        self._running.set()
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        """Start the service on a free port of this machine."""
        self._server = grpc.server(ThreadPoolExecutor(_CALLS_AT_ONCE), handlers=[_Handlers(self)])
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.set()
        if self._server is not None:
            self._server.stop(0).wait()

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The checks so far, in order."""
        return tuple(self._service.asked)

    def client(self, **options: Any) -> StepUpClient:
        """Return a client of this service. The options are those of `StepUpClient`."""
        return StepUpClient(self.target, **options)

    def async_client(self, **options: Any) -> AsyncStepUpClient:
        """Return a client of this service. The options are those of `AsyncStepUpClient`."""
        return AsyncStepUpClient(self.target, **options)

    def need(
        self, operation: str, *, max_age: timedelta = LIFETIME, every_time: bool = False
    ) -> None:
        """Let an operation need a code; with `every_time`, a challenge for each action."""
        with self._service.changed:
            self._service.needs[operation] = Need(max_age, every_time)

    def advance(self, **span: float) -> None:
        """Move the clock, such as `advance(minutes=16)`: elevations and challenges get older."""
        with self._service.changed:
            self._service.now += timedelta(**span)
            self._service.changed.notify_all()

    def elevate(self, actor: ActorContext) -> None:
        """Elevate the session of a person, as a right code does."""
        with self._service.changed:
            self._service.elevated_at[session_of(actor)] = self._service.now

    def take_authenticator(self, actor: ActorContext) -> None:
        """Leave a person without an authenticator and without an elevation."""
        with self._service.changed:
            self._service.without_authenticator.add(user_of(actor))
            self._service.end_elevations(actor, every_session=True)

    def script(self, *answers: Answer | Failure) -> None:
        """Give the next checks these answers, in order; a `Failure` is an error."""
        with self._service.changed:
            self._service.scripts.extend(answers)

    @contextmanager
    def failing(self, failure: Failure | None = None) -> Iterator[None]:
        """Let every call fail while the block runs, with UNAVAILABLE by default."""
        self._failure = failure or Failure()
        try:
            yield
        finally:
            self._failure = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let no call end while the block runs, as a server that hangs."""
        self._running.clear()
        try:
            yield
        finally:
            self._running.set()

    def approve(self, challenge_id: str, code: str = CODE) -> None:
        """Answer a challenge as its person does on another screen; a wrong code changes nothing."""
        with self._service.changed:
            self._service.answer(challenge_id, code)

    def decline(self, challenge_id: str) -> None:
        """Decline a challenge as its person does on another screen."""
        with self._service.changed:
            self._service.end(self._service.find_pending(challenge_id), "DECLINED")

    def respond(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer a call of a method that has one answer."""
        self._running.wait()
        try:
            if self._failure is not None:
                raise self._failure
            with self._service.changed:
                return getattr(self._service, name)(request)
        except Failure as failure:
            return _abort(context, failure)

    def await_challenge(
        self, request: AwaitChallengeRequest, context: grpc.ServicerContext
    ) -> Iterator[AwaitChallengeResponse]:
        """Send a challenge now, and again when it is answered or ends."""
        sent = Challenge()
        while not sent.challenge_id or sent.state == CHALLENGE_STATE_PENDING:
            found = self.respond("find", request.challenge_id, context)
            if found.state != sent.state:
                sent.CopyFrom(found)
                yield AwaitChallengeResponse(challenge=sent)
                continue
            if not context.is_active():
                return
            with self._service.changed:
                self._service.changed.wait(_LOOK_EVERY)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, fake: FakeStepUp) -> None:
        self._fake = fake

    def service(self, handler_call_details: Any) -> Any:
        rpc = _RPCS.get(handler_call_details.method)
        if rpc is None:
            return None
        parse, write = rpc.request.FromString, rpc.response.SerializeToString
        if rpc.is_stream:
            return grpc.unary_stream_rpc_method_handler(self._fake.await_challenge, parse, write)
        name = _snake_case(rpc.path.rpartition("/")[2])

        def respond(request: Any, context: grpc.ServicerContext) -> Any:
            return self._fake.respond(name, request, context)

        return grpc.unary_unary_rpc_method_handler(respond, parse, write)


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def _abort(context: grpc.ServicerContext, failure: Failure) -> None:
    code = grpc.StatusCode[failure.code]
    status = Status(code=code.value[0], message=failure.reason)
    packed = AnyMessage()
    packed.Pack(ErrorInfo(domain="stepup", reason=failure.reason))
    status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, failure.reason)


_RPCS: Final[Mapping[str, Rpc[Any, Any]]] = {
    rpc.path: rpc
    for rpc in (
        rpcs.CHECK_STEP_UP,
        rpcs.BATCH_CHECK_STEP_UP,
        rpcs.VERIFY_OTP,
        rpcs.REVOKE_ELEVATIONS,
        rpcs.CREATE_CHALLENGE,
        rpcs.GET_CHALLENGE,
        rpcs.AWAIT_CHALLENGE,
        rpcs.ANSWER_CHALLENGE,
        rpcs.DECLINE_CHALLENGE,
        rpcs.CANCEL_CHALLENGE,
    )
}
