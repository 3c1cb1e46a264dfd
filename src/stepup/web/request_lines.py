"""One log line and one observation for each request, without anything of a visit (S11, S21)."""

import time
from typing import Final

from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepup.system.random_ids import random_id
from stepup.telemetry.logs import info_writer

PROBE: Final = "probe"
"""The route of probes, which have no line."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
_seconds = Histogram(
    "stepup_web_request_seconds",
    "How long the portal took to answer requests of browsers.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class RequestLines:
    """Writes the line of each request, and gives the request its id.

    A line has the route, as `route_is` says, and never the path: that of a link has a secret.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._write = info_writer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = str(random_id())
        status = 500
        begin = time.perf_counter()

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_status)
        finally:
            self._finish(scope, status, time.perf_counter() - begin, request_id)

    def _finish(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = scope["state"].get("route", "none")
        _seconds.labels(route, method, str(status)).observe(seconds)
        if route != PROBE:
            line = {"route": route, "method": method, "status": status}
            line |= {"duration_ms": round(seconds * 1000, 1), "request_id": request_id}
            self._write("request", line)


def route_is(scope: Scope, route: str) -> None:
    """Name the route of a request in its line: a text of the code, never of the request."""
    scope["state"]["route"] = route
