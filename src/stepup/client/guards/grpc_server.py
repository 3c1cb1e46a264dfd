"""A guard for servers of grpc: an interceptor.

guard = StepUpInterceptor(
    stepup,  # a StepUpClient
    actor=lambda request, context: actor_of(context),
    services=[hosts_pb2.DESCRIPTOR.services_by_name["Hosts"]],
    methods={
        "/acme.v1.Hosts/StartShell": Gate("response.start_remote_shell", lambda r: r.host),
        "/acme.v1.Hosts/List": None,
    },
)
server = grpc.server(pool, interceptors=[guard])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

from stepup.client.answers import Allowed
from stepup.client.errors import StepUpError
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.grpc_methods import GuardedMethods, Methods, behavior_of
from stepup.client.guards.refusals import Refused, grpc_refusal

if TYPE_CHECKING:
    from stepup.client import StepUpClient
    from stepup.v1.actor_pb2 import ActorContext


class StepUpInterceptor(grpc.ServerInterceptor):
    """Lets a method run after the answer `Allowed`, and refuses the call otherwise.

    Args:
        client: asks the service.
        actor: returns the person of a call, from the request and the context; the request is None
            if requests are a stream. An error that it raises ends the call.
        services: see `GuardedMethods`.
        methods: see `GuardedMethods`. If requests are a stream, the target is taken from the
            context, because the check comes before the first message.

    Raises:
        ValueError: see `GuardedMethods`.
    """

    def __init__(
        self,
        client: StepUpClient,
        *,
        actor: Callable[[Any, grpc.ServicerContext], ActorContext],
        services: Iterable[Any],
        methods: Methods,
    ) -> None:
        self._client = client
        self._actor = actor
        self._methods = GuardedMethods(services, methods)

    def method_map(self) -> Mapping[str, str | None]:
        """Return the operation of each method; None for a method without an operation."""
        return self._methods.method_map()

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: Any
    ) -> Any:
        """Return the handler of a call, behind the guard if the method needs an operation."""
        handler = continuation(handler_call_details)
        return self._methods.guard(handler_call_details.method, handler, self._guarded)

    def _guarded(self, gate: Gate, handler: Any) -> Callable[[Any, grpc.ServicerContext], Any]:
        behavior = behavior_of(handler)

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            with in_force(self._decide(gate, handler, request, context)):
                return behavior(request, context)

        def streaming(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            with in_force(self._decide(gate, handler, request, context)):
                yield from behavior(request, context)

        return streaming if handler.response_streaming else unary

    def _decide(
        self, gate: Gate, handler: Any, request: Any, context: grpc.ServicerContext
    ) -> Allowed:
        """Return the answer that allows the call, or end the call."""
        is_stream = handler.request_streaming
        actor = self._actor(None if is_stream else request, context)
        target = gate.target_of(context if is_stream else request)
        try:
            answer = self._client.check(actor, gate.operation, target=target)
        except StepUpError as error:
            _refuse(error, gate.operation, context)
        if not isinstance(answer, Allowed):
            _refuse(answer, gate.operation, context)
        return answer


def _refuse(refused: Refused, operation: str, context: grpc.ServicerContext) -> NoReturn:
    refusal = grpc_refusal(refused, operation)
    context.set_trailing_metadata(refusal.trailers)
    context.abort(refusal.code, refusal.message)
    raise AssertionError("abort() returned")  # it must not, and the method must not run
