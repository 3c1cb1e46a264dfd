"""One log line and one observation for each request, without anything of a visit (S11, S21)."""

import time
from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepup.system.random_ids import random_id
from stepup.telemetry.logs import info_writer

PROBE: Final = "probe"
"""The route of probes, which have no line."""
BURST: Final = 50
"""How many lines of one route and status, outside visits, are written after a pause (S18)."""
LINES_PER_SECOND: Final = 0.1
"""How many more during a flood, on average: everybody can make any number of such requests."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
_seconds = Histogram(
    "stepup_web_request_seconds",
    "How long the portal took to answer requests of browsers.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_suppressed = Counter(
    "stepup_web_request_lines_suppressed",
    "Lines of requests outside visits that were left out of the log.",
    ["route", "status"],
)


class RequestLines:
    """Writes the lines of requests, and gives each request its id.

    All lines of visits are written, and of others a sample by route and status. A line has the
    route, as `route_is` says, and never the path: that of a link has a secret.

    Args:
        app: answers the requests.
        now: the time in seconds, which never goes back.
    """

    def __init__(self, app: ASGIApp, now: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._now = now
        self._write = info_writer()
        # The tokens of each route and status, and when they were counted. Routes are few.
        self._tokens: dict[tuple[str, int], tuple[float, float]] = {}

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
        if route == PROBE:
            return
        if "visit" in scope["state"] or self._take_token(route, status):
            line = {"route": route, "method": method, "status": status}
            line |= {"duration_ms": round(seconds * 1000, 1), "request_id": request_id}
            self._write("request", line)

    def _take_token(self, route: str, status: int) -> bool:
        """Whether one more line of the route and status may be written; if not, it is counted."""
        now = self._now()
        tokens, counted_at = self._tokens.get((route, status), (BURST, now))
        tokens = min(BURST, tokens + (now - counted_at) * LINES_PER_SECOND)
        may_write = tokens >= 1
        self._tokens[route, status] = (tokens - may_write, now)
        if not may_write:
            _suppressed.labels(route, str(status)).inc()
        return may_write


def route_is(scope: Scope, route: str) -> None:
    """Name the route of a request in its line: a text of the code, never of the request."""
    scope["state"]["route"] = route
