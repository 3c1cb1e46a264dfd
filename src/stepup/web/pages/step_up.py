"""The page `step_up`: asks for a code, which elevates the session of the console.

A right code leads to `leave`, which ends the visit. A browser that sent the form twice follows only
the last answer, and so the visit must outlive the first one.
"""

from typing import Final

from starlette.responses import Response

from stepup.web.codes import RefusedCode, lock_of, standing_of, try_code
from stepup.web.forms import Form
from stepup.web.rendering import leave, render, to
from stepup.web.routing import PageRoute
from stepup.web.visits import Visit


async def show(visit: Visit, _: Form) -> Response:
    """Ask for a code, or say why none helps."""
    standing = await standing_of(visit)
    if standing is None:  # the answer to the code says it
        return _prompt(visit)
    if not standing.HasField("active"):
        return render(visit, "step_up_not_enrolled.html")
    return _prompt(visit, lock_of(visit.texts, standing))


async def give_code(visit: Visit, form: Form) -> Response:
    """Give the code to the core; a right one leads back to the console."""
    refused = await try_code(visit, form)
    return to(visit, "leave") if refused is None else _prompt(visit, refused, 422)


def _prompt(visit: Visit, refused: RefusedCode | None = None, status: int = 200) -> Response:
    return render(visit, "step_up.html", status, refused=refused)


ROUTES: Final[tuple[PageRoute, ...]] = (
    PageRoute("", show),
    PageRoute("code", give_code, method="POST"),
    PageRoute("code", show),  # a reload by its address
    PageRoute("leave", leave),
)
