"""Guards of HTTP servers: nothing runs before `Allowed`; a refusal is RFC 9470 and RFC 9457."""

import json
from types import ModuleType, SimpleNamespace

import django
import fastapi
import flask
import httpx
import pytest
from django.conf import settings
from django.http import HttpResponse
from django.test import AsyncClient as AsyncDjangoClient
from django.test import Client as DjangoClient
from django.urls import path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from stepup_tests.client.fixed_answers import (
    ACTOR,
    ALLOWED,
    REFUSALS,
    AsyncFixedAnswer,
    FixedAnswer,
)

from stepup.client.guards import Gate, allowed, write_method_map
from stepup.client.guards import django as django_guards
from stepup.client.guards import flask as flask_guards
from stepup.client.guards.asgi import UNGUARDED, StepUpMiddleware
from stepup.client.guards.fastapi import FastApiGuard

SHELL = "response.start_remote_shell"
PATH = "/hosts/host-7/shell"


class Site:
    """A server with one guarded view, and a list of its runs. A subclass is a framework."""

    def __init__(self, answer):
        self.client = self.stepup(answer)
        self.runs = []
        self.build()

    stepup = AsyncFixedAnswer

    def run(self):
        """What the guarded view does."""
        self.runs.append(allowed().decision_id)
        return "a shell"


class OverAsgi(Site):
    def build(self):
        async def shell(_request):
            return PlainTextResponse(self.run())

        guard = Middleware(
            StepUpMiddleware,
            client=self.client,
            actor=lambda _scope: ACTOR,
            operation=SHELL,
            target=lambda scope: scope["path_params"]["host"],
        )
        self.app = Starlette(
            routes=[Route("/hosts/{host}/shell", shell, methods=["POST"], middleware=[guard])]
        )

    async def post(self):
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as browser:
            response = await browser.post(PATH)
        return SimpleNamespace(
            status=response.status_code, headers=response.headers, body=response.content
        )


class OverFastApi(OverAsgi):
    def build(self):
        self.app = fastapi.FastAPI()

        async def actor(_request):
            return ACTOR

        self.guard = FastApiGuard(self.app, self.client, actor=actor)
        needed = self.guard(SHELL, target=lambda request: request.path_params["host"])

        @self.app.post("/hosts/{host}/shell", dependencies=[needed])
        async def shell(host: str):
            assert host == "host-7"
            return self.run()

        @self.app.get("/hosts")
        async def hosts():
            return []


class OverFlask(Site):
    stepup = FixedAnswer

    def build(self):
        self.app = flask.Flask("site")
        guard = flask_guards.FlaskGuard(self.client, actor=lambda _request: ACTOR)

        @self.app.post("/hosts/<host>/shell")
        @guard(SHELL, target=lambda request: request.view_args["host"])
        def shell(host):
            assert host == "host-7"
            return self.run()

        @self.app.get("/hosts")
        def hosts():
            return []

    async def post(self):
        response = self.app.test_client().post(PATH)
        return SimpleNamespace(
            status=response.status_code, headers=response.headers, body=response.data
        )


class OverDjango(Site):
    stepup = FixedAnswer
    browser = DjangoClient

    def build(self):
        if not settings.configured:
            settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=None)
            django.setup()
        guard = django_guards.DjangoGuard(self.client, actor=lambda _request: ACTOR)
        host_of = lambda request: request.resolver_match.kwargs["host"]  # noqa: E731
        view = guard(SHELL, target=host_of)(self.view())
        urls = [path("hosts/<str:host>/shell", view), path("hosts", lambda _request: None)]
        self.urls = ModuleType("urls")
        self.urls.urlpatterns = urls

    def view(self):
        def shell(_request, host):
            assert host == "host-7"
            return HttpResponse(self.run())

        return shell

    async def post(self):
        return self.described(self.browser().post(PATH))

    def described(self, response):
        return SimpleNamespace(
            status=response.status_code, headers=response.headers, body=response.content
        )


class OverAsyncDjango(OverDjango):
    stepup = AsyncFixedAnswer

    def view(self):
        async def shell(_request, host):
            assert host == "host-7"
            return HttpResponse(self.run())

        return shell

    async def post(self):
        return self.described(await AsyncDjangoClient().post(PATH))


@pytest.fixture(params=[OverAsgi, OverFastApi, OverFlask, OverDjango, OverAsyncDjango])
def site(request, monkeypatch):
    """Make a site whose service gives one answer."""

    def make(answer):
        made = request.param(answer)
        if isinstance(made, OverDjango):
            monkeypatch.setattr(settings, "ROOT_URLCONF", made.urls)
        return made

    return make


async def test_an_allowed_action_runs_once(site):
    site = site(ALLOWED)
    assert (await site.post()).status == 200
    assert site.runs == ["d-1"]
    assert site.client.asked == [("bob", SHELL, "host-7")]


WANTED = {
    "step-up": {
        "type": "urn:stepup:problem:step-up-required",
        "title": "A one-time code is required",
        "status": 401,
        "operation": SHELL,
        "decision_id": "d-2",
        "rule": "NOT_ELEVATED",
        "challenge": False,
        "max_age": 900,
        "cause": "EXPIRED",
    },
    "challenge": {
        "type": "urn:stepup:problem:step-up-required",
        "title": "A one-time code is required",
        "status": 401,
        "operation": SHELL,
        "decision_id": "d-3",
        "rule": "EVERY_TIME",
        "challenge": True,
    },
    "enrollment": {
        "type": "urn:stepup:problem:enrollment-required",
        "title": "An authenticator is required",
        "status": 401,
        "operation": SHELL,
        "decision_id": "d-4",
        "rule": "NOT_ENROLLED",
        "challenge": False,
        "max_age": 300,
    },
    "unavailable": {
        "type": "urn:stepup:problem:no-decision",
        "title": "There is no decision at the moment",
        "status": 503,
        "operation": SHELL,
    },
}
MAX_AGES = {"step-up": ', max_age="900"', "challenge": "", "enrollment": ', max_age="300"'}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refused_action_does_not_run(site, kind):
    site = site(REFUSALS[kind])
    response = await site.post()
    assert site.runs == []
    assert response.status == WANTED[kind]["status"]
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert json.loads(response.body) == WANTED[kind]
    if kind == "unavailable":
        assert response.headers["retry-after"] == "2"
        assert "www-authenticate" not in response.headers
    else:
        assert response.headers["www-authenticate"] == (
            'Bearer error="insufficient_user_authentication",'
            f' error_description="{WANTED[kind]["title"]}", acr_values="urn:stepup:acr:otp"'
            f"{MAX_AGES[kind]}"
        )


@pytest.mark.parametrize("answer", [RuntimeError("a bug"), None, True])
async def test_whatever_else_happens_lets_nothing_run(site, answer):
    site = site(answer)
    with pytest.raises(Exception, match=r".*"):  # noqa: PT012  # a test client may raise it
        response = await site.post()
        assert response.status == 500
        raise RuntimeError
    assert site.runs == []


async def test_a_web_socket_is_guarded():
    ran = []

    async def shell(socket):
        await socket.accept()
        ran.append(allowed().decision_id)
        await socket.close()

    async def connect(answer, extensions):
        app = Starlette(routes=[WebSocketRoute("/shell", shell)])
        guarded = StepUpMiddleware(
            app, client=AsyncFixedAnswer(answer), actor=lambda _scope: ACTOR, operation=SHELL
        )
        scope = {"type": "websocket", "path": "/shell", "headers": [], "extensions": extensions}
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        await guarded(scope, receive, send)
        return sent

    assert (await connect(ALLOWED, {}))[0]["type"] == "websocket.accept"
    assert ran == ["d-1"]
    [closed] = await connect(REFUSALS["step-up"], {})
    assert (closed["type"], closed["code"]) == ("websocket.close", 4401)
    start, body = await connect(REFUSALS["step-up"], {"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(body["body"]) == WANTED["step-up"]
    assert ran == ["d-1"]


async def test_a_middleware_asks_only_where_an_operation_is_needed():
    client = AsyncFixedAnswer(REFUSALS["step-up"])
    passed = []

    async def app(scope, _receive, _send):
        passed.append(scope["type"])

    guarded = StepUpMiddleware(
        app,
        client=client,
        actor=lambda _scope: ACTOR,
        operation=lambda scope: {"POST": SHELL, "GET": UNGUARDED}.get(scope["method"]),
    )
    await guarded({"type": "lifespan"}, None, None)
    await guarded({"type": "http", "method": "GET"}, None, None)
    assert (passed, client.asked) == (["lifespan", "http"], [])
    with pytest.raises(ValueError, match="found no operation"):
        await guarded({"type": "http", "method": "PUT"}, None, None)
    assert (passed, client.asked) == (["lifespan", "http"], [])


def test_each_guard_writes_its_map(tmp_path):
    fastapi_site, flask_site = OverFastApi(ALLOWED), OverFlask(ALLOWED)
    django_site = OverDjango(ALLOWED)
    write_method_map(fastapi_site.guard.method_map(), tmp_path / "fastapi.json")
    assert json.loads((tmp_path / "fastapi.json").read_text()) == {
        "methods": {"GET /hosts": None, "POST /hosts/{host}/shell": SHELL}
    }
    mapped = flask_guards.method_map(flask_site.app)
    assert mapped["POST /hosts/<host>/shell"] == SHELL
    assert mapped["GET /hosts"] is None
    assert django_guards.method_map(django_site.urls.urlpatterns) == {
        "/hosts/<str:host>/shell": SHELL,
        "/hosts": None,
    }


async def test_fastapi_ends_an_answer_with_its_request():
    site = OverFastApi(ALLOWED)

    @site.app.get("/unguarded")
    async def unguarded():
        with pytest.raises(LookupError):
            allowed()

    transport = httpx.ASGITransport(site.app)  # as some servers, it serves requests in one task
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as browser:
        assert (await browser.post(PATH)).status_code == 200
        assert (await browser.get("/unguarded")).status_code == 200


def test_a_map_has_the_route_that_runs():
    fastapi_site, flask_site = OverFastApi(ALLOWED), OverFlask(ALLOWED)
    fastapi_site.app.get("/hosts", dependencies=[fastapi_site.guard(SHELL)])(list)
    assert fastapi_site.guard.method_map()["GET /hosts"] is None
    guard = flask_guards.FlaskGuard(flask_site.client, actor=lambda _request: ACTOR)
    flask_site.app.get("/hosts", endpoint="later")(guard(SHELL)(list))
    assert flask_guards.method_map(flask_site.app)["GET /hosts"] is None
    django_site = OverDjango(ALLOWED)
    urls = django_site.urls.urlpatterns
    later = path("hosts", urls[0].callback)
    assert django_guards.method_map([*urls, later])["/hosts"] is None


def test_the_map_of_fastapi_has_the_routes_of_routers():
    site = OverFastApi(ALLOWED)
    inner, outer = fastapi.APIRouter(), fastapi.APIRouter(dependencies=[site.guard(SHELL)])
    inner.post("/shell")(list)
    outer.include_router(inner, prefix="/inner")
    site.app.include_router(outer, prefix="/outer")
    site.app.include_router(inner, prefix="/unguarded")
    mapped = site.guard.method_map()
    assert mapped["POST /outer/inner/shell"] == SHELL
    assert mapped["POST /unguarded/shell"] is None


@pytest.mark.parametrize("found", ["", None])
def test_a_target_function_must_find_a_target(found):
    with pytest.raises(ValueError, match="returned no target"):
        Gate(SHELL, lambda _request: found).target_of(None)
    assert Gate(SHELL).target_of(None) == ""
