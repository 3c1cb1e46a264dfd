"""The portal on a fake core: real gRPC to the core, no socket to the browser.

    async def test_x():
        async with portal(page=pb.PORTAL_PAGE_ACCOUNT) as (core, browser):
            core.answer("EnrollmentService/GetEnrollment", pb2.GetEnrollmentResponse(...))
            await browser.open()
            page = await browser.get("")
            page = await browser.post("code", code="123 456")
            assert core.calls_of("StepUpService/VerifyOtp")[0].code == "123456"

The session of the visit is `core.session`: change its fields before `open`.
"""

import html
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import httpx
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from starlette.types import ASGIApp

from stepup.client import AsyncStepUpClient, rpcs
from stepup.client.rpc import Rpc
from stepup.v1 import actor_pb2
from stepup.v1 import portal_service_pb2 as pb
from stepup.web.app import Portal
from stepup.web.rendering import templates
from stepup.web.site import Site
from stepup.web.static import StaticFiles
from stepup.web.visits import csrf_token_of

ORIGIN = "http://127.0.0.1:8080"
RPCS = {
    rpc.path.removeprefix("/stepup.v1."): rpc for rpc in vars(rpcs).values() if isinstance(rpc, Rpc)
}


class Refused(Exception):  # noqa: N818  # what a fake method answers
    """An answer of the core that is an error: see api.md, the table of errors."""

    def __init__(
        self, code: grpc.StatusCode, reason: str = "", field: str = "", **details: str
    ) -> None:
        super().__init__(reason)
        self.code, self.reason, self.field, self.details = code, reason, field, details

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        status = status_pb2.Status(code=self.code.value[0], message=self.reason)
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(domain="stepup", reason=self.reason, metadata=self.details)
        )
        if self.field:
            violation = error_details_pb2.BadRequest.FieldViolation(field=self.field)
            status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        return (("grpc-status-details-bin", status.SerializeToString()),)


UNAVAILABLE = Refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
ENDED = Refused(grpc.StatusCode.UNAUTHENTICATED, "PORTAL_SESSION")


@dataclass
class Call:
    method: str
    request: Any
    metadata: dict[str, Any]


class FakeCore(grpc.GenericRpcHandler):
    """Answers each method as the test says; a method without an answer is UNIMPLEMENTED."""

    def __init__(self, page: pb.PortalPage.ValueType = pb.PORTAL_PAGE_ACCOUNT) -> None:
        self.calls: list[Call] = []
        self.session = pb.PortalSession(
            page=page,
            return_url="https://console.example/after?x=1",
            locale="en",
            time_zone="Europe/Berlin",
            account_name="bob@acme.example",
            tenant_name="Acme",
            user_id="bob",
            account_type=actor_pb2.ACCOUNT_TYPE_LOCAL,
            opened_by="Console",
        )
        self.session.expires_at.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
        self.token = "t" * 43
        self.session_id = "s" * 43
        self.is_ready = True
        self.sessions = {self.token: (self.session_id, self.session)}
        """The sessions by their tokens: the test adds more."""
        self.redeemed: set[str] = set()
        self._answers: dict[str, Any] = {}
        self.answer("PortalService/RedeemPortalSession", self._redeem)
        self.answer("PortalService/GetPortalSession", self._get)
        self.answer("PortalService/EndPortalSession", pb.EndPortalSessionResponse())

    async def serves(self) -> bool:
        """Whether the core says that it serves: see `is_ready`."""
        return self.is_ready

    def answer(self, method: str, answer: Message | Refused | Callable[[Call], Any]) -> None:
        """Set what a method answers: a message, an error, or a function of the call."""
        assert method in RPCS, method
        self._answers[method] = answer

    def calls_of(self, method: str) -> list[Any]:
        """The requests of a method so far."""
        return [call.request for call in self.calls if call.method == method]

    def _redeem(self, call: Call) -> Message:
        token = call.request.token
        if token in self.redeemed or token not in self.sessions:
            raise ENDED
        self.redeemed.add(token)
        session_id, session = self.sessions[token]
        return pb.RedeemPortalSessionResponse(session_id=session_id, session=session)

    def _get(self, call: Call) -> Message:
        for session_id, session in self.sessions.values():
            if call.metadata.get("stepup-portal-session") == session_id:
                return pb.GetPortalSessionResponse(session=session)
        raise ENDED

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        method = details.method.removeprefix("/stepup.v1.")
        rpc = RPCS[method]

        async def unary(request: Message, context: Any) -> Message:
            answer = self._answers.get(method, Refused(grpc.StatusCode.UNIMPLEMENTED))
            call = Call(method, request, dict(context.invocation_metadata()))
            self.calls.append(call)
            try:
                if isinstance(answer, Refused):
                    raise answer
                return answer(call) if callable(answer) else answer
            except Refused as refused:
                context.set_trailing_metadata(refused.trailers())
                await context.abort(refused.code, refused.reason)
                raise

        async def stream(request: Message, context: Any) -> AsyncIterator[Message]:
            for message in await unary(request, context):
                if isinstance(message, Refused):
                    context.set_trailing_metadata(message.trailers())
                    await context.abort(message.code, message.reason)
                yield message

        codecs = {
            "request_deserializer": rpc.request.FromString,
            "response_serializer": rpc.response.SerializeToString,
        }
        if rpc.is_stream:
            return grpc.unary_stream_rpc_method_handler(stream, **codecs)
        return grpc.unary_unary_rpc_method_handler(unary, **codecs)


class Page:
    """An answer to the browser."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.html = response.text
        self.location = response.headers.get("location", "")
        self.text = " ".join(re.sub(r"<[^>]*>", " ", self.html).split())

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]*)"', self.html)
        return found[1] if found else ""

    def field(self, name: str) -> str:
        """The value of an input field."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.html)
        assert found, f"no field {name} in {self.text}"
        return html.unescape(found[1])

    def link(self, path: str) -> str:
        """The address of the first link to a path of the visit, with its query."""
        found = re.search(rf'href="(/v/[^/]*/{path}\?[^"]*)"', self.html)
        assert found, f"no link to {path} in {self.text}"
        return html.unescape(found[1])


class Browser:
    """A browser without JavaScript. It follows no redirection unless told."""

    def __init__(self, client: httpx.AsyncClient, core: FakeCore, app: ASGIApp) -> None:
        self.client = client
        self.app = app
        self.core = core
        self.visit = ""

    async def open(self, token: str = "") -> Page:
        """Open the link and press its button; return the page of the visit."""
        response = await self.client.post(f"/open/{token or self.core.token}")
        assert response.status_code == 303, response.text
        self.visit = response.headers["location"]
        return await self.get()

    async def get(self, path: str = "", **headers: str) -> Page:
        """Get a page of the visit, such as `confirm`; or an address that begins with a slash."""
        url = path if path.startswith("/") else self.visit + path
        return Page(await self.client.get(url, headers=headers))

    async def post(self, path: str = "", *, csrf: str | None = None, **fields: Any) -> Page:
        """Send a form of the visit. A list is a field with several values."""
        if csrf is None:
            csrf = csrf_token_of(self.core.session_id, self.visit.split("/")[2])
        url = path if path.startswith("/") else self.visit + path
        return Page(await self.client.post(url, data={"csrf": csrf, **fields}))

    async def follow(self, page: Page) -> Page:
        """Follow a redirection within the portal."""
        assert page.status == 303, page.text
        return await self.get(page.location)


@asynccontextmanager
async def portal(
    page: pb.PortalPage.ValueType = pb.PORTAL_PAGE_ACCOUNT, public_url: str = ORIGIN
) -> AsyncIterator[tuple[FakeCore, Browser]]:
    """Run a portal on a fake core."""
    core = FakeCore(page)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([core])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    files = StaticFiles("#3452c7")
    site = Site(public_url, "Acme MFA", templates(), files.addresses)
    try:
        async with AsyncStepUpClient(f"127.0.0.1:{port}") as stepup:
            app = Portal(site, files, stepup, core.serves).app
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport,
                base_url=public_url,
                headers={"Origin": public_url, "Sec-Fetch-Site": "same-origin"},
            ) as client:
                yield core, Browser(client, core, app)
    finally:
        await server.stop(None)
