"""A guard for FastAPI: a dependency.

    guard = FastApiGuard(app, stepup, actor=actor_of)

    @app.post("/hosts/{host}/shell", dependencies=[
        guard("response.start_remote_shell", target=lambda request: request.path_params["host"])])
    async def start_shell(host: str): ...

A route may also take the answer as a parameter: `allowed: Annotated[Allowed, guard("...")]`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request, Response, routing
from fastapi.routing import APIRoute

from stepup.client.answers import Allowed
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.refusals import Refused, async_answer_to, http_refusal

if TYPE_CHECKING:
    from stepup.client import AsyncStepUpClient
    from stepup.v1.actor_pb2 import ActorContext


class FastApiGuard:
    """Makes dependencies that let a route run after the answer `Allowed`.

    Args:
        app: the application, which gets a handler for refusals.
        client: asks the service.
        actor: returns the person of a request; it may be a coroutine function.
    """

    def __init__(
        self,
        app: FastAPI,
        client: AsyncStepUpClient,
        *,
        actor: Callable[[Request], ActorContext | Awaitable[ActorContext]],
    ) -> None:
        self._app = app
        self._client = client
        self._actor = actor
        app.add_exception_handler(_RefusedError, _answer)

    def __call__(self, operation: str, *, target: Callable[[Request], str] | None = None) -> Any:
        """Return a dependency for a route whose action is an operation.

        Args:
            operation: the catalogue id of the action.
            target: returns the target of the action from the request. Without it the target is
                empty.
        """
        return Depends(_Check(self._client, self._actor, Gate(operation, target)))

    def method_map(self) -> Mapping[str, str | None]:
        """Return the operation of each route of the application; None for a route without one.

        Of routes with the same name, FastAPI runs the first. Mounted applications have maps of
        their own.
        """
        return {
            f"{' '.join(sorted(route.methods or ()))} {route.path}": _operation_of(route.dependant)
            for route in reversed(_routes_of(self._app))
        }


class _Check:
    def __init__(
        self,
        client: AsyncStepUpClient,
        actor: Callable[[Request], ActorContext | Awaitable[ActorContext]],
        gate: Gate,
    ) -> None:
        self._client = client
        self._actor = actor
        self.gate = gate

    async def __call__(self, request: Request) -> AsyncIterator[Allowed]:
        answer = await async_answer_to(self._client, self._actor, self.gate, request)
        if not isinstance(answer, Allowed):
            raise _RefusedError(answer, self.gate.operation)
        with in_force(answer):
            yield answer


class _RefusedError(Exception):
    def __init__(self, refused: Refused, operation: str) -> None:
        super().__init__(operation)
        self.refused = refused
        self.operation = operation


async def _answer(_request: Request, error: Exception) -> Response:
    assert isinstance(error, _RefusedError)  # noqa: S101  # the handler is registered for it only
    refusal = http_refusal(error.refused, error.operation)
    return Response(refusal.body, refusal.status, dict(refusal.headers))


def _routes_of(app: FastAPI) -> list[Any]:
    """Return the routes of an application and of its routers, with their full paths."""
    if not hasattr(routing, "iter_route_contexts"):  # `include_router` of older FastAPI copies
        return [route for route in app.routes if isinstance(route, APIRoute)]
    contexts = routing.iter_route_contexts(app.routes)
    return [each for each in contexts if isinstance(each.original_route, APIRoute)]


def _operation_of(dependant: Any) -> str | None:
    if isinstance(dependant.call, _Check):
        return dependant.call.gate.operation
    for inner in dependant.dependencies:
        operation = _operation_of(inner)
        if operation is not None:
            return operation
    return None
