"""Clients that send slowly, or break off, keep no connection and fill no log (S18)."""

import asyncio
import logging
import socket
from contextlib import asynccontextmanager

import uvicorn
from stepup_tests.web import ORIGIN, portal

from stepup.settings import WebSettings
from stepup.web import forms, serving

WAIT = 0.3


@asynccontextmanager
async def served(monkeypatch):
    """Serve a portal as `stepup web` does, with short waits; the value connects to it."""
    monkeypatch.setattr(serving, "_SILENCE_SECONDS", WAIT)
    monkeypatch.setattr(forms, "FORM_SECONDS", WAIT)
    settings = WebSettings(public_url=ORIGIN, core={"target": "127.0.0.1:1", "insecure": True})
    listening = socket.create_server(("127.0.0.1", 0))
    async with portal() as (_, browser):
        config = serving.configuration(settings, browser)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield lambda: asyncio.open_connection(*listening.getsockname())
        finally:
            server.should_exit = True
            await task


async def drip(writer):
    while True:
        writer.write(b"a")
        await asyncio.sleep(WAIT / 10)


async def test_s18_a_request_that_takes_long_to_begin_ends_the_connection(monkeypatch):
    async with served(monkeypatch) as connect:
        for head in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await connect()
            writer.write(head + b"GET /")
            dripping = asyncio.create_task(drip(writer))
            answers = await asyncio.wait_for(reader.read(), 20 * WAIT)
            dripping.cancel()
            writer.close()
            assert answers.count(b"200 OK") == bool(head)


async def test_s18_a_slow_form_is_refused_and_its_connection_ends(monkeypatch):
    async with served(monkeypatch) as connect:
        for origin, status in ((ORIGIN, b"400"), ("https://evil.example", b"403")):
            reader, writer = await connect()
            head = (
                f"POST /v/{'v' * 22}/save HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9999\r\n\r\n"
            )
            writer.write(head.encode())
            dripping = asyncio.create_task(drip(writer))
            answer = await asyncio.wait_for(reader.read(), 20 * WAIT)
            dripping.cancel()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 " + status)


async def test_s18_broken_requests_write_no_lines(monkeypatch):
    lines = []
    handler = logging.Handler()
    handler.emit = lines.append
    async with served(monkeypatch) as connect:
        monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [handler])
        form = (
            f"POST /v/{'v' * 22}/save HTTP/1.1\r\nHost: x\r\nOrigin: {ORIGIN}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9999\r\n\r\na=1"
        )
        upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        for request in ("no request\r\n\r\n", upgrade, form):
            reader, writer = await connect()
            writer.write(request.encode())
            await asyncio.sleep(WAIT / 10)
            writer.close()
            await reader.read()
        await asyncio.sleep(WAIT)
    assert lines == []
