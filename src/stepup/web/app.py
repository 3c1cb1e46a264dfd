"""The application: routes, and what holds for every answer."""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from stepup.client import AsyncStepUpClient, RequestError, StepUpError, UnavailableError
from stepup.v1 import portal_service_pb2 as pb
from stepup.v1.actor_pb2 import Client
from stepup.web.cookies import session_id_of, with_cookie, without_cookie
from stepup.web.forms import FormError, form_of, query_of
from stepup.web.headers import SecureHeaders
from stepup.web.origins import is_from_another_site, is_from_own_page
from stepup.web.pages import PAGES
from stepup.web.rendering import leave, page, render, to
from stepup.web.request_lines import PROBE, RequestLines, route_is
from stepup.web.routing import Handler
from stepup.web.site import Site
from stepup.web.static import StaticFiles
from stepup.web.texts import accepted, texts_of
from stepup.web.visits import VISIT_ID, Visit, csrf_token_of, metadata_of, visit_id_of

_ENDED: Final = "PORTAL_SESSION"
_NOT_PERMITTED: Final = frozenset({"CALLER_NOT_PERMITTED", "ROLE_REQUIRED"})
_RETRY_SECONDS: Final = 5
_MAX_USER_AGENT: Final = 512  # actor.proto


class _VisitId(StringConvertor):
    """The segment of a visit: no other text may become part of a cookie's name."""

    regex = VISIT_ID


register_url_convertor("visit", _VisitId())


class Portal:
    """The pages, for browsers.

    Args:
        site: the deployment.
        files: the static files of its pages.
        stepup: the client of the core, with the web process's credentials.
        core_serves: whether the core can decide now.
    """

    def __init__(
        self,
        site: Site,
        files: StaticFiles,
        stepup: AsyncStepUpClient,
        core_serves: Callable[[], Awaitable[bool]],
    ) -> None:
        self._site = site
        self._core_serves = core_serves
        self._stepup = stepup
        pages = Starlette(
            routes=[
                Route("/open/{token}", self._show_opening, methods=["GET"]),
                Route("/open/{token}", self._open, methods=["POST"]),
                Route("/challenges/{challenge}", self._point, methods=["GET"]),
                Route("/v/{visit:visit}/{path:path}", self._get, methods=["GET"]),
                Route("/v/{visit:visit}/{path:path}", self._post, methods=["POST"]),
                files.route(),
                Route("/healthz", self._say_alive),
                Route("/readyz", self._say_ready),
            ],
            exception_handlers={
                StepUpError: self._answer_error,
                HTTPException: self._answer_http,
                FormError: self._answer_form_error,
                Exception: self._answer_error,
            },
        )
        # It would lead to an address with the token of a link, by whatever Host the request has.
        pages.router.redirect_slashes = False
        self.app = RequestLines(SecureHeaders(pages, site))

    async def _say_alive(self, request: Request) -> Response:
        route_is(request.scope, PROBE)
        return Response()

    async def _say_ready(self, request: Request) -> Response:
        route_is(request.scope, PROBE)
        return Response(status_code=200 if await self._core_serves() else 503)

    async def _show_opening(self, request: Request) -> Response:
        route_is(request.scope, "/open/{token}")
        visit_id = visit_id_of(request.path_params["token"])
        if session_id_of(self._site, visit_id, request.headers):
            return RedirectResponse(f"/v/{visit_id}/", 303)
        return self._page(request, "opening.html")

    async def _open(self, request: Request) -> Response:
        route_is(request.scope, "/open/{token}")
        token = request.path_params["token"]
        visit_id = visit_id_of(token)
        if not is_from_own_page(request.headers, self._site.public_url):
            return self._forbidden(request)
        answer = RedirectResponse(f"/v/{visit_id}/", 303)
        # Also with a cookie: a program that plants one must not choose the session of this person.
        try:
            opened = await self._stepup.portal.redeem(token=token, client=_device(request))
        except RequestError as error:
            if error.reason != _ENDED:
                raise
            return answer  # a second click: the visit says whether it is there
        return with_cookie(self._site, visit_id, opened, answer)

    async def _point(self, request: Request) -> Response:
        """Answer the address of a challenge: it opens nothing, whatever the id (S19)."""
        route_is(request.scope, "/challenges/{challenge}")
        return self._page(request, "challenge_pointer.html")

    async def _get(self, request: Request) -> Response:
        visit = await self._visit(request)
        handler = _handler(request, visit)
        if request.method == "HEAD":  # an answer without a body: nothing is read for it
            return Response()
        if handler is leave and is_from_another_site(request.headers):
            return to(visit)  # a link of another site ends no visit
        return await handler(visit, query_of(request))

    async def _post(self, request: Request) -> Response:
        if not is_from_own_page(request.headers, self._site.public_url):
            return self._forbidden(request)
        form = await form_of(request)
        visit_id = request.path_params["visit"]
        session_id = session_id_of(self._site, visit_id, request.headers)
        expected = csrf_token_of(session_id, visit_id)
        if not hmac.compare_digest(form["csrf"].encode(), expected.encode()):
            return self._forbidden(request)
        visit = await self._visit(request)
        return await _handler(request, visit)(visit, form)

    async def _visit(self, request: Request) -> Visit:
        visit_id = request.path_params["visit"]
        session_id = session_id_of(self._site, visit_id, request.headers)
        if not session_id:
            raise HTTPException(401)
        answer = await self._stepup.portal.get(metadata=metadata_of(session_id))
        session = answer.session
        preferred = [session.locale, *_accepted(request)]
        texts = texts_of(preferred, session.time_zone)
        done = request.query_params.get("done", "")
        visit = Visit(visit_id, session_id, session, self._stepup, texts, self._site, done)
        request.state.visit = visit
        return visit

    def _page(
        self, request: Request, template: str, status: int = 200, **values: object
    ) -> Response:
        visit: Visit | None = getattr(request.state, "visit", None)
        if visit is not None:
            return render(visit, template, status, **values)
        return HTMLResponse(
            page(self._site, texts_of(_accepted(request)), template, values), status
        )

    async def _answer_error(self, request: Request, error: Exception) -> Response:
        """Answer what the core refused, and the page did not expect."""
        if isinstance(error, UnavailableError):
            visit_id = request.path_params.get("visit")
            retry = f"/v/{visit_id}/" if visit_id else ""
            response = self._page(request, "unavailable.html", 503, retry=retry)
            response.headers["Retry-After"] = str(_RETRY_SECONDS)
            return response
        reason = error.reason if isinstance(error, StepUpError) else ""
        if reason == _ENDED:
            return self._ended(request)
        if reason in _NOT_PERMITTED:
            return self._page(request, "not_permitted.html", 403)
        return self._page(request, "failure.html", 500, request_id=request.state.request_id)

    async def _answer_http(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 400
        if status == HTTPStatus.UNAUTHORIZED:
            return self._ended(request)
        return self._page(request, "missing.html", status)

    async def _answer_form_error(self, request: Request, _: Exception) -> Response:
        return self._page(request, "refused.html", 400)

    def _forbidden(self, request: Request) -> Response:
        return self._page(request, "refused.html", 403)

    def _ended(self, request: Request) -> Response:
        response = self._page(request, "ended.html", 401)
        visit_id = request.path_params.get("visit")
        return without_cookie(self._site, visit_id, response) if visit_id else response


def _device(request: Request) -> Client:
    """The device of the browser, for the audit events of the visit."""
    host = request.client.host.partition("%")[0] if request.client else ""
    try:
        ip_address(host)
    except ValueError:  # a proxy sent something else
        host = ""
    agent = request.headers.get("user-agent", "")[:_MAX_USER_AGENT]
    return Client(address=host, user_agent="".join(filter(str.isprintable, agent)))


def _accepted(request: Request) -> Sequence[str]:
    return accepted(request.headers.get("accept-language", ""))


def _handler(request: Request, visit: Visit) -> Handler:
    method = "GET" if request.method == "HEAD" else request.method
    for route in PAGES.get(visit.session.page, ()):
        if (route.path, route.method) == (request.path_params["path"], method):
            name = pb.PortalPage.Name(visit.session.page).removeprefix("PORTAL_PAGE_").lower()
            route_is(request.scope, f"{name}/{route.path}")
            return route.handler
    raise HTTPException(404)
