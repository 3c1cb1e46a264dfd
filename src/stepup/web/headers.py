"""The headers of every answer (S21): also of errors, static files and probes."""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepup.web.origins import origin_of
from stepup.web.site import Site

_ALWAYS: Final = (
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Frame-Options", "DENY"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
    " form-action {}; frame-ancestors 'none'; base-uri 'none'"
)


class SecureHeaders:
    """Adds the headers to whatever the application answers."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._always: Sequence[tuple[str, str]] = _ALWAYS
        if site.is_secure:
            self._always = (*_ALWAYS, ("Strict-Transport-Security", "max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does, with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._always:
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                headers["Content-Security-Policy"] = _POLICY.format(" ".join(_targets(scope)))
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _targets(scope: Scope) -> Sequence[str]:
    """Where forms may lead: to us, and at the end to the console, by a redirection."""
    visit = scope.get("state", {}).get("visit")
    return ["'self'", origin_of(visit.session.return_url)] if visit else ["'self'"]
