"""What an orchestrator is told about a server's life."""

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest

from stepup.telemetry import probes
from stepup.telemetry.probes import probes_answered

NAMES = ("", "sql_writes", "stepup.v1.StepUpService/VerifyOtp")


class Server:
    serving = NAMES


@pytest.fixture
def server():
    return Server()


@pytest.fixture
async def port(server):
    async with probes_answered("127.0.0.1", 0, lambda: server.serving, NAMES) as port:
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


async def test_a_server_that_cannot_decide_is_not_ready_but_need_not_be_restarted(port, server):
    server.serving = ()
    assert [await status(port, path) for path in ("/ready", "/live")] == [503, 200]


@pytest.mark.parametrize("path", ["/", "/metrics", "/ready/", "/READY"])
async def test_there_is_nothing_else(port, path):
    assert await status(port, path) == 404


async def test_head_is_answered_as_get_is(port, server):
    async def head(path):
        return (await said(port, f"HEAD {path} HTTP/1.1\r\n\r\n".encode())).split()[1]

    server.serving = ()
    assert [await head(path) for path in ("/ready", "/live", "/")] == ["503", "200", "404"]


@pytest.mark.parametrize("path", ["/ready?", "/ready?verbose", "/ready?a=1&b=2", "/live?service=x"])
async def test_an_unknown_parameter_is_ignored(port, path):
    assert await status(port, path) == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("service=", 200),
        ("service=sql_writes", 503),
        ("service=stepup.v1.StepUpService/VerifyOtp", 200),
        ("service=stepup.v1.StepUpService%2FVerifyOtp", 200),
        ("verbose=1&service=sql_writes", 503),
        ("service=stepup.v1.StepUpService/VerifyOtp&service=sql_writes", 503),
        ("service=sql_write", 404),
        ("service=sql_writes&service=sql_write", 404),
        ("service=%FF", 404),
    ],
)
async def test_s17_each_health_name_can_be_probed(port, server, query, expected):
    server.serving = set(NAMES) - {"sql_writes"}
    assert await status(port, f"/ready?{query}") == expected


async def test_s18_silent_connections_are_few_and_keep_no_probe_out(port):
    """Each is a file descriptor of the process that serves calls."""
    async with AsyncExitStack() as stack:
        silent = []
        for _ in range(2 * probes.MAX_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            silent.append(reader)
        assert await status(port, "/ready") == 200
        # The oldest were closed, though none had been silent for long.
        for reader in silent[: probes.MAX_CONNECTIONS]:
            with suppress(ConnectionError):
                assert await reader.read() == b""


async def test_a_connection_that_stays_silent_is_closed(port, monkeypatch):
    monkeypatch.setattr(probes, "_REQUEST_SECONDS", 0.01)
    assert await said(port, b"GET /ready HTTP/1.1\r\n") == ""


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
