"""What an orchestrator is told about a server's life."""

import asyncio

import pytest

from stepup.probes import probes_answered


class Server:
    is_serving = True


@pytest.fixture
def server():
    return Server()


@pytest.fixture
async def port(server):
    async with probes_answered("127.0.0.1", 0, lambda: server.is_serving) as port:
        yield port


async def said(port, request):
    """Everything that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def status(port, path):
    answer = await said(port, f"GET {path} HTTP/1.1\r\nhost: probe\r\n\r\n".encode())
    return int(answer.split()[1])


async def test_a_server_that_serves_is_ready(port):
    assert await status(port, "/ready") == 200


async def test_a_server_that_cannot_decide_is_not_ready_but_need_not_be_restarted(port, server):
    server.is_serving = False
    assert [await status(port, path) for path in ("/ready", "/live")] == [503, 200]


@pytest.mark.parametrize("path", ["/", "/metrics", "/ready/", "/READY"])
async def test_there_is_nothing_else(port, path):
    assert await status(port, path) == 404


async def test_only_reading_is_answered(port):
    assert (await said(port, b"POST /ready HTTP/1.1\r\n\r\n")).startswith("HTTP/1.1 404 ")


@pytest.mark.parametrize("sent", [b"\r\n\r\n", b"GET\r\n\r\n"], ids=["nothing", "half a line"])
async def test_what_is_no_request_is_found_nowhere(port, sent):
    assert (await said(port, sent)).startswith("HTTP/1.1 404 ")


async def test_a_request_without_end_gets_no_answer(port):
    assert await said(port, b"GET /ready HTTP/1.1\r\n" + b"a" * 20_000) == ""
    assert await status(port, "/ready") == 200


async def test_who_goes_away_harms_nobody(port):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /rea")
    writer.close()
    await writer.wait_closed()
    assert await status(port, "/ready") == 200
