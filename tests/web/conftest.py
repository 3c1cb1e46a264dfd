"""A page of the tests, in place of the account's."""

from types import MappingProxyType
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from stepup.v1 import portal_service_pb2 as pb
from stepup.web import app
from stepup.web.rendering import TEMPLATES, leave, render, to
from stepup.web.routing import PageRoute


class TestedPage:
    """Its forms that were accepted, in their order."""

    __test__ = False

    def __init__(self) -> None:
        self.accepted: list[Any] = []

    async def show(self, visit, form):
        return render(visit, "tested.html", text=form["text"])

    async def save(self, visit, form):
        self.accepted.append((visit.id, form))
        return to(visit, done="saved")

    async def fail(self, _visit, _form):
        raise ZeroDivisionError("with a secret")

    async def leave(self, visit, _form):
        return await leave(visit)

    async def download(self, _visit, _form):
        return PlainTextResponse("text")


@pytest.fixture
def tested(monkeypatch, tmp_path):
    page = TestedPage()
    routes = (
        PageRoute("", page.show),
        PageRoute("save", page.save, method="POST"),
        PageRoute("fail", page.fail),
        PageRoute("leave", page.leave, method="POST"),
        PageRoute("download", page.download),
    )
    pages = {**app.PAGES, pb.PORTAL_PAGE_ACCOUNT: routes}
    monkeypatch.setattr(app, "PAGES", MappingProxyType(pages))
    (tmp_path / "tested.html").write_text(
        '{% extends "base.html" %}{% import "parts.html" as parts with context %}'
        "{% block title %}Tested{% endblock %}{% block content %}"
        "{{ parts.quotation(text) }}{{ parts.copyable(text, download=text) }}"
        '{{ parts.notice(text, "bad") }}{{ parts.descriptions([(text, text|bdi)]) }}'
        '{{ parts.error_summary([("code", text), ("", text)]) }}'
        '{% call parts.form("save") %}{{ parts.code_field("Code", text, text) }}'
        '{{ parts.text_field("reason", text, text, text, text) }}'
        '{{ parts.text_area("more", text, text) }}{{ parts.checkbox("on", text, true, text) }}'
        '{{ parts.radios("way", text, [(text, text, text)], text) }}'
        '{{ parts.select("kind", text, [(text, text)], text) }}'
        '{{ parts.button(text, name="b", value=text) }}{% endcall %}'
        '{{ parts.link(text, visit.url("", text=text)) }}{{ parts.countdown(session.expires_at) }}'
        "{{ parts.steps([text], 1) }}{% call parts.scrolling(text) %}x{% endcall %}"
        "{% endblock %}"
    )
    monkeypatch.setattr("stepup.web.rendering.TEMPLATES", [TEMPLATES, tmp_path])
    return page
