"""The cases of gRPC's interoperability tests for a server; requests and responses are JSON.

Sizes stay below our message limit. What comes back is compared in whole: that the server ends
a call properly is part of each case.
"""

import asyncio
from base64 import b64encode

import grpc
import pytest

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


class EndedError(Exception):
    """A call ended with a status: its code, as in `UNAVAILABLE`, and message."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message!r}")
        self.code = code
        self.message = message


def zeros(size):
    return {"body": b64encode(bytes(size)).decode()}


async def ended(call):
    with pytest.raises(EndedError) as error:
        await call
    return error.value.code, error.value.message


async def empty_unary(client):
    assert await client.call("TestService/EmptyCall", {}) == [{}]


async def large_unary(client):
    request = {"responseSize": 60_000, "payload": zeros(50_000)}
    assert await client.call("TestService/UnaryCall", request) == [{"payload": zeros(60_000)}]


async def server_streaming(client):
    sizes = [31_415, 9, 2_653, 58_979]
    request = {"responseParameters": [{"size": size} for size in sizes]}
    responses = await client.call("TestService/StreamingOutputCall", request)
    assert responses == [{"payload": zeros(size)} for size in sizes]


async def client_streaming(client):
    sizes = [27_182, 8, 1_828, 45_904]
    requests = [{"payload": zeros(size)} for size in sizes]
    response = {"aggregatedPayloadSize": sum(sizes)}
    assert await client.call("TestService/StreamingInputCall", *requests) == [response]


async def ping_pong(client):
    sizes = [(31_415, 27_182), (9, 8), (2_653, 1_828), (58_979, 45_904)]
    requests = [
        {"responseParameters": [{"size": size}], "payload": zeros(sent)} for size, sent in sizes
    ]
    responses = await client.call("TestService/FullDuplexCall", *requests)
    assert responses == [{"payload": zeros(size)} for size, _ in sizes]


async def empty_stream(client):
    assert await client.call("TestService/FullDuplexCall") == []


async def timeout_on_sleeping_server(client):
    request = {"responseParameters": [{"size": 1, "intervalUs": 60_000_000}]}
    seconds = client.least_seconds
    status = await ended(client.call("TestService/FullDuplexCall", request, seconds=seconds))
    assert status[0] == "DEADLINE_EXCEEDED", status


async def custom_metadata(client):
    metadata = {"x-grpc-test-text": "a text value", "x-grpc-test-octets-bin": b"\xab\xab\x00\xff"}
    [response] = await client.call("TestService/UnaryCall", {"responseSize": 1}, metadata=metadata)
    assert response == {"payload": zeros(1), "seenText": "a text value", "seenOctets": "q6sA/w=="}


async def status_code_and_message(client):
    request = {"responseStatus": {"code": 2, "message": "test status message"}}
    for method in ("UnaryCall", "FullDuplexCall"):
        status = await ended(client.call(f"TestService/{method}", request))
        assert status == ("UNKNOWN", "test status message")


async def special_status_message(client):
    request = {"responseStatus": {"code": 2, "message": SPECIAL}}
    code, message = await ended(client.call("TestService/UnaryCall", request))
    assert (code, client.shown(message)) == ("UNKNOWN", client.shown(SPECIAL))


async def unimplemented_method(client):
    status = await ended(client.call("TestService/UnimplementedCall", {}))
    assert status == ("UNIMPLEMENTED", "there is no such method"), status


async def unimplemented_service(client):
    status = await ended(client.call("UnimplementedService/UnimplementedCall", {}))
    assert status == ("UNIMPLEMENTED", "there is no such method"), status


CASES = (
    *(empty_unary, large_unary, server_streaming, client_streaming, ping_pong, empty_stream),
    *(timeout_on_sleeping_server, custom_metadata, status_code_and_message),
    *(special_status_message, unimplemented_method, unimplemented_service),
)


async def run_all(client):
    """All of them, beside each other."""
    async with asyncio.TaskGroup() as group:
        for case in CASES:
            group.create_task(case(client), name=case.__name__)


def name_of(code):
    """The name of a code that is given as a number."""
    return next(each.name for each in grpc.StatusCode if each.value[0] == code)
