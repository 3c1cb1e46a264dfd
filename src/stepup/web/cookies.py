"""The cookie of a visit: it holds the session's id, and its name the visit's (S20)."""

from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from stepup.v1 import portal_service_pb2 as pb
from stepup.web.site import Site


def _attributes(site: Site) -> dict[str, Any]:
    return {"path": "/", "secure": site.is_secure, "httponly": True, "samesite": "lax"}


_ENDED: Final = ""


def with_cookie(
    site: Site,
    visit_id: str,
    opened: pb.RedeemPortalSessionResponse,
    response: Response,
) -> Response:
    """Give the browser the session, for as long as it may live at most."""
    rest = opened.session.expires_at.ToDatetime(UTC) - datetime.now(UTC)
    response.set_cookie(
        site.cookie_of(visit_id),
        opened.session_id,
        max_age=max(int(rest.total_seconds()), 0),
        **_attributes(site),
    )
    return response


def without_cookie(site: Site, visit_id: str, response: Response) -> Response:
    """Take the session from the browser."""
    response.set_cookie(site.cookie_of(visit_id), _ENDED, max_age=0, **_attributes(site))
    return response
