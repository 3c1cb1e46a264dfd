"""A route of a page: the path below `/v/<visit>/`, and the function that answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from stepup.web.forms import Form
from stepup.web.visits import Visit

Handler = Callable[[Visit, Form], Awaitable[Response]]
"""What answers a request of a visit. A GET has the query as its form.

A `StepUpError` that a handler does not catch becomes a page: "this visit has ended", "try again",
or "this did not work". A POST is checked for its token and origin before the handler sees it.
"""


@dataclass(frozen=True, slots=True)
class PageRoute:
    """A route of a page.

    Args:
        path: without a slash at its begin; empty for the page itself.
    """

    path: str
    handler: Handler
    method: Literal["GET", "POST"] = "GET"
