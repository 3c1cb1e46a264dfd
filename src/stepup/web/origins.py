"""Whether a POST comes from a page of ours (S21)."""

import re
from typing import Final

from starlette.datastructures import Headers

_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(?=[/?#]|$)")


def is_from_own_page(headers: Headers, origin: str) -> bool:
    """Whether a page of this origin sent the request.

    Our pages have `Referrer-Policy: no-referrer`, so that browsers send `Origin: null` with their
    forms (Fetch, "append a request Origin header"); `Sec-Fetch-Site` decides then. A request with
    neither is refused.
    """
    site = headers.get("sec-fetch-site")
    sent = headers.get("origin", "null")
    if sent == "null":
        return site == "same-origin"
    return sent == origin and site in (None, "same-origin")


def is_from_another_site(headers: Headers) -> bool:
    """Whether a page of another origin sent the browser here; old browsers do not say so."""
    return headers.get("sec-fetch-site") in ("cross-site", "same-site")


def origin_of(url: str) -> str:
    """The origin of an address that the core has checked; `'none'` for what is not an origin."""
    found = _ORIGIN.match(url)
    return found[0] if found else "'none'"
