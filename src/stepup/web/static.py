"""Static files: their names have a hash of their content, so that browsers may keep them."""

import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepup.system.colours import lightened
from stepup.web.request_lines import route_is

_DIRECTORY: Final = Path(__file__).with_name("static")
_DARK_CARD: Final = "#232833"  # the lightest background of portal.css in the dark
_CONTRAST: Final = 4.5
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """The files of the pages, and the stylesheet of the deployment's accent colour.

    Args:
        accent_color: as the settings checked it: white text on it can be read.
    """

    def __init__(self, accent_color: str) -> None:
        files = {file.name: file.read_bytes() for file in sorted(_DIRECTORY.iterdir())}
        files["accent.css"] = _accent_css(accent_color).encode()
        self._files: dict[str, tuple[bytes, str]] = {}
        self.addresses: dict[str, str] = {}
        for name, content in files.items():
            stem, _, suffix = name.rpartition(".")
            hashed = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
            self._files[hashed] = content, _TYPES[f".{suffix}"]
            self.addresses[name] = f"/static/{hashed}"

    def route(self) -> Route:
        """The route of all files."""
        return Route("/static/{name}", self._answer)

    async def _answer(self, request: Request) -> Response:
        route_is(request.scope, "/static/{name}")
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        content, kind = found
        cache = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=cache)


def _accent_css(colour: str) -> str:
    """The colours of buttons and links. In the dark, links are lighter."""
    link = lightened(colour, _DARK_CARD, _CONTRAST)
    return (
        f":root {{ --accent: {colour}; --on-accent: #fff; --link: {colour}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --link: {link}; }} }}\n"
    )
