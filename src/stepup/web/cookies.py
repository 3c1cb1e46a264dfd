"""The cookie of a visit: it holds the session's id, and its name the visit's (S20)."""

import re
from datetime import UTC, datetime
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from stepup.v1 import portal_service_pb2 as pb
from stepup.web.site import Site


def _attributes(site: Site) -> dict[str, Any]:
    return {"path": "/", "secure": site.is_secure, "httponly": True, "samesite": "lax"}


_ENDED: Final = ""
_SESSION_ID: Final = re.compile("[A-Za-z0-9_-]{1,128}")


def session_id_of(site: Site, visit_id: str, headers: Headers) -> str:
    """Return the session that the browser has for a visit; empty if it has none.

    A name counts as the browser sent it: one that begins with a no-break space is another name,
    whose prefix no browser guards. Of two cookies with the name none counts.
    """
    name, found = site.cookie_of(visit_id), list[str]()
    for header in headers.getlist("cookie"):
        for pair in header.split(";"):
            key, _, session_id = pair.strip(" \t").partition("=")
            if key == name:
                found.append(session_id)
    return found[0] if len(found) == 1 and _SESSION_ID.fullmatch(found[0]) else ""


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
