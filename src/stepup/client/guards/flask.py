"""A guard for Flask: a decorator of views.

guard = FlaskGuard(stepup, actor=actor_of)

@app.post("/hosts/<host>/shell")
@guard("response.start_remote_shell", target=lambda request: request.view_args["host"])
def start_shell(host): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, Request, Response, request

from stepup.client.answers import Allowed
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.refusals import answer_to, http_refusal

if TYPE_CHECKING:
    from stepup.client import StepUpClient
    from stepup.v1.actor_pb2 import ActorContext

_View = TypeVar("_View", bound=Callable[..., Any])
_OPERATION = "stepup_operation"


class FlaskGuard:
    """Makes decorators that let a view run after the answer `Allowed`.

    Args:
        client: asks the service.
        actor: returns the person of a request.
    """

    def __init__(self, client: StepUpClient, *, actor: Callable[[Request], ActorContext]) -> None:
        self._client = client
        self._actor = actor

    def __call__(
        self, operation: str, *, target: Callable[[Request], str] | None = None
    ) -> Callable[[_View], _View]:
        """Return a decorator for a view whose action is an operation.

        Args:
            operation: the catalogue id of the action.
            target: returns the target of the action from the request. Without it the target is
                empty.
        """
        gate = Gate(operation, target)

        def guarded(view: _View) -> _View:
            @wraps(view)
            def run(*args: Any, **kwargs: Any) -> Any:
                answer = answer_to(self._client, self._actor, gate, request)
                if not isinstance(answer, Allowed):
                    refusal = http_refusal(answer, operation)
                    return Response(refusal.body, refusal.status, list(refusal.headers))
                with in_force(answer):
                    return view(*args, **kwargs)

            setattr(run, _OPERATION, operation)
            return cast("_View", run)

        return guarded


def method_map(app: Flask) -> Mapping[str, str | None]:
    """Return the operation of each route of an application; None for a route without one.

    Of routes with the same name, Flask runs the first.
    """
    return {
        f"{' '.join(sorted((rule.methods or set()) - {'HEAD', 'OPTIONS'}))} {rule.rule}": getattr(
            app.view_functions[rule.endpoint], _OPERATION, None
        )
        for rule in reversed(list(app.url_map.iter_rules()))
    }
