"""A guard for ASGI: a middleware around an application, a mounted part of one, or one route.

    Route("/hosts/{host}/shell", start_shell, methods=["POST"], middleware=[
        Middleware(StepUpMiddleware, client=stepup, actor=actor_of,
                   operation="response.start_remote_shell",
                   target=lambda scope: scope["path_params"]["host"])])

It guards every request that reaches it. It compares no paths, so that no spelling of a path goes
around it: put it where the framework has already chosen the route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stepup.client.answers import Allowed
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.refusals import Refused, async_answer_to, http_refusal

if TYPE_CHECKING:
    from stepup.client import AsyncStepUpClient
    from stepup.v1.actor_pb2 import ActorContext

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

UNGUARDED: Final = "unguarded"
"""What a function for the operation returns for a request that needs no operation."""
_DENIED = 4401
"""How a web socket is closed whose server cannot answer its handshake with a response."""


class StepUpMiddleware:
    """Lets a request through after the answer `Allowed`, and answers it otherwise.

    It guards HTTP requests and web sockets.

    Args:
        app: the application behind the guard.
        client: asks the service.
        actor: returns the person of a request, from its scope; it may be a coroutine function.
        operation: the catalogue id of the action; or a function of the scope that returns the id,
            or `UNGUARDED` for a request that needs no operation. None is an error, so that a lookup
            that finds nothing lets nothing through: a path has many spellings.
        target: returns the target of the action from the scope. Without it the target is empty.
    """

    def __init__(
        self,
        app: App,
        *,
        client: AsyncStepUpClient,
        actor: Callable[[Scope], ActorContext | Awaitable[ActorContext]],
        operation: str | Callable[[Scope], str],
        target: Callable[[Scope], str] | None = None,
    ) -> None:
        self._app = app
        self._client = client
        self._actor = actor
        self._operation = operation
        self._target = target

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request. The messages of a server about its own life pass.

        Raises:
            ValueError: a function found no operation, or no target. The application does not run.
        """
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        operation = self._operation(scope) if callable(self._operation) else self._operation
        if operation == UNGUARDED:
            await self._app(scope, receive, send)
            return
        if not operation:
            raise ValueError("the operation function found no operation: return one, or UNGUARDED")
        gate = Gate(operation, self._target)
        answer = await async_answer_to(self._client, self._actor, gate, scope)
        if isinstance(answer, Allowed):
            with in_force(answer):
                await self._app(scope, receive, send)
        else:
            await _refuse(answer, operation, scope, receive, send)


async def _refuse(
    refused: Refused, operation: str, scope: Scope, receive: Receive, send: Send
) -> None:
    refusal = http_refusal(refused, operation)
    prefix = "http"
    if scope["type"] == "websocket":
        await receive()  # the handshake
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _DENIED, "reason": "step-up required"})
            return
        prefix = "websocket.http"
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers]
    await send({"type": f"{prefix}.response.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": refusal.body})
