"""Static files: their names have a hash of their content, so that browsers may keep them."""

import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stepup.web.finish_lines import route_is

_DIRECTORY: Final = Path(__file__).with_name("static")
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class StaticFiles:
    """The files of the pages, and the stylesheet of the deployment's accent colour."""

    def __init__(self, accent: str) -> None:
        files = {file.name: file.read_bytes() for file in sorted(_DIRECTORY.iterdir())}
        files["accent.css"] = accent.encode()
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
