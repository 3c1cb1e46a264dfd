"""A guard for servers of grpc.aio: an interceptor with the arguments of that of `grpc_server`."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
import grpc.aio

from stepup.client.answers import Allowed
from stepup.client.errors import StepUpError
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.grpc_methods import GuardedMethods, Methods, behavior_of
from stepup.client.guards.refusals import Refused, grpc_refusal

if TYPE_CHECKING:
    from stepup.client import AsyncStepUpClient
    from stepup.v1.actor_pb2 import ActorContext

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AsyncStepUpInterceptor(grpc.aio.ServerInterceptor):
    """Lets a method run after the answer `Allowed`, and refuses the call otherwise.

    Guarded methods must be coroutine functions or asynchronous generators.

    Args:
        client: asks the service.
        actor: as for `grpc_server.StepUpInterceptor`; it may be a coroutine function.
        services: see `GuardedMethods`.
        methods: as for `grpc_server.StepUpInterceptor`.

    Raises:
        ValueError: see `GuardedMethods`.
    """

    def __init__(
        self,
        client: AsyncStepUpClient,
        *,
        actor: Callable[[Any, _Context], ActorContext | Awaitable[ActorContext]],
        services: Iterable[Any],
        methods: Methods,
    ) -> None:
        self._client = client
        self._actor = actor
        self._methods = GuardedMethods(services, methods)

    def method_map(self) -> Mapping[str, str | None]:
        """Return the operation of each method; None for a method without an operation."""
        return self._methods.method_map()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the handler of a call, behind the guard if the method needs an operation."""
        handler = await continuation(handler_call_details)
        return self._methods.guard(handler_call_details.method, handler, self._guarded)

    def _guarded(self, gate: Gate, handler: Any) -> Callable[[Any, Any], Any]:
        behavior = behavior_of(handler)

        async def awaited(request: Any, context: _Context) -> Any:
            with in_force(await self._decide(gate, handler, request, context)):
                return await behavior(request, context)

        async def iterated(request: Any, context: _Context) -> AsyncIterator[Any]:
            with in_force(await self._decide(gate, handler, request, context)):
                async for response in behavior(request, context):
                    yield response

        if inspect.isasyncgenfunction(behavior):
            return iterated
        if inspect.iscoroutinefunction(behavior):
            return awaited
        raise TypeError(f"{behavior} must be asynchronous: its calls would block the server")

    async def _decide(self, gate: Gate, handler: Any, request: Any, context: _Context) -> Allowed:
        """Return the answer that allows the call, or end the call."""
        is_stream = handler.request_streaming
        actor = self._actor(None if is_stream else request, context)
        if inspect.isawaitable(actor):
            actor = await actor
        target = gate.target_of(context if is_stream else request)
        try:
            answer = await self._client.check(actor, gate.operation, target=target)
        except StepUpError as error:
            await _refuse(error, gate.operation, context)
        if not isinstance(answer, Allowed):
            await _refuse(answer, gate.operation, context)
        return answer


async def _refuse(refused: Refused, operation: str, context: _Context) -> NoReturn:
    refusal = grpc_refusal(refused, operation)
    await context.abort(refusal.code, refusal.message, refusal.trailers)
    raise AssertionError("abort() returned")  # it must not, and the method must not run
