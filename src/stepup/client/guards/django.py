"""A guard for Django: a decorator of views, synchronous or asynchronous.

guard = DjangoGuard(stepup, actor=actor_of)

@guard("response.start_remote_shell", target=lambda request: request.resolver_match.kwargs["host"])
def start_shell(request, host): ...
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]

from stepup.client.answers import Allowed
from stepup.client.guards.gates import Gate, in_force
from stepup.client.guards.refusals import Refused, answer_to, async_answer_to, http_refusal

if TYPE_CHECKING:
    from stepup.client import AsyncStepUpClient, StepUpClient

_View = TypeVar("_View", bound=Callable[..., Any])
_OPERATION = "stepup_operation"


class DjangoGuard:
    """Makes decorators that let a view run after the answer `Allowed`.

    Args:
        client: asks the service: an `AsyncStepUpClient` for asynchronous views, else a
            `StepUpClient`.
        actor: returns the person of a request; it may be a coroutine function for asynchronous
            views.
    """

    def __init__(
        self,
        client: StepUpClient | AsyncStepUpClient,
        *,
        actor: Callable[[HttpRequest], Any],
    ) -> None:
        self._client: Any = client
        self._actor = actor

    def __call__(
        self, operation: str, *, target: Callable[[HttpRequest], str] | None = None
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
            def run(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                answer = answer_to(self._client, self._actor, gate, request)
                if not isinstance(answer, Allowed):
                    return _response(answer, operation)
                with in_force(answer):
                    return view(request, *args, **kwargs)

            @wraps(view)
            async def run_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                answer = await async_answer_to(self._client, self._actor, gate, request)
                if not isinstance(answer, Allowed):
                    return _response(answer, operation)
                with in_force(answer):
                    return await view(request, *args, **kwargs)

            chosen = run_async if inspect.iscoroutinefunction(view) else run
            setattr(chosen, _OPERATION, operation)
            return cast("_View", chosen)

        return guarded


def method_map(patterns: Any) -> Mapping[str, str | None]:
    """Return the operation of each route of URL patterns; None for a route without one.

    Of routes with the same name, Django runs the first.
    """
    return dict(reversed(list(_routes(patterns, ""))))


def _routes(patterns: Any, prefix: str) -> Iterator[tuple[str, str | None]]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        inner = getattr(pattern, "url_patterns", None)
        if inner is not None:
            yield from _routes(inner, route)
        else:
            yield f"/{route}", getattr(pattern.callback, _OPERATION, None)


def _response(refused: Refused, operation: str) -> HttpResponse:
    refusal = http_refusal(refused, operation)
    headers = dict(refusal.headers)
    return HttpResponse(refusal.body, status=refusal.status, headers=headers)
