"""Clients of several makers, which all speak JSON to their user."""

import asyncio
import json
import re
from base64 import b64encode
from contextlib import asynccontextmanager
from tempfile import NamedTemporaryFile

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from stepup_tests.e2e.processes import PROGRAMS
from stepup_tests.interop.cases import EndedError, name_of
from stepup_tests.interop.schema import descriptors, method

PATIENCE_SECONDS = 20


class Client:
    """A program of others that makes calls."""

    least_seconds = 0.5

    def __init__(self, target):
        self.target = target

    @classmethod
    @asynccontextmanager
    async def started(cls, target):
        """A client of a server, for as long as the block lasts."""
        yield cls(target)

    async def call(self, path, *requests, seconds=PATIENCE_SECONDS, metadata=()):
        """Make a call, and return all responses.

        Raises:
            EndedError: it ended with another status than OK.
        """
        raise NotImplementedError

    @staticmethod
    def shown(message):
        """A status message as far as the program shows it faithfully."""
        return message


def _stub(channel, path):
    """What calls a method, and what it is given for its requests."""
    called = method(path)
    message = GetMessageClass(called.input_type)
    kind = [
        ("unary", "stream")[each] for each in (called.client_streaming, called.server_streaming)
    ]

    def request(requests):
        payloads = [ParseDict(each, message()).SerializeToString() for each in requests]
        return iter(payloads) if called.client_streaming else payloads[0]

    return getattr(channel, "_".join(kind))(f"/grpc.testing.{path}"), request


def _json(path, payload):
    return MessageToDict(GetMessageClass(method(path).output_type).FromString(payload))


class AioClient(Client):
    """`grpc.aio`."""

    async def call(self, path, *requests, seconds=PATIENCE_SECONDS, metadata=()):
        async with grpc.aio.insecure_channel(self.target) as channel:
            stub, request = _stub(channel, path)
            call = stub(request(requests), timeout=seconds, metadata=tuple(dict(metadata).items()))
            try:
                if method(path).server_streaming:
                    return [_json(path, payload) async for payload in call]
                return [_json(path, await call)]
            except grpc.aio.AioRpcError as error:
                raise EndedError(error.code().name, error.details()) from error


class SyncClient(Client):
    """grpcio's API for threads."""

    async def call(self, path, *requests, seconds=PATIENCE_SECONDS, metadata=()):
        with grpc.insecure_channel(self.target) as channel:
            stub, request = _stub(channel, path)
            streams = method(path).server_streaming
            begin = stub if streams else stub.future
            call = begin(request(requests), timeout=seconds, metadata=tuple(dict(metadata).items()))
            try:
                payloads = await asyncio.to_thread(list if streams else _only, call)
            except asyncio.CancelledError:
                call.cancel()
                raise
            except grpc.RpcError as error:
                raise EndedError(error.code().name, error.details()) from error
        return [_json(path, payload) for payload in payloads]


def _only(call):
    return [call.result()]


class _Program(Client):
    """A program that makes one call, with its requests on standard input."""

    least_seconds = 2  # of which it takes a part to start

    def __init__(self, target, schema):
        super().__init__(target)
        self.schema = schema

    @classmethod
    @asynccontextmanager
    async def started(cls, target):
        with NamedTemporaryFile(suffix=".binpb") as schema:
            schema.write(descriptors())
            schema.flush()
            yield cls(target, schema.name)

    async def call(self, path, *requests, seconds=PATIENCE_SECONDS, metadata=()):
        headers = [
            f"{key}: {b64encode(value).decode() if isinstance(value, bytes) else value}"
            for key, value in dict(metadata).items()
        ]
        program, *arguments = self.command(f"grpc.testing.{path}", headers, seconds)
        process = await asyncio.create_subprocess_exec(
            PROGRAMS / program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            stdin = "\n".join(map(json.dumps, requests)).encode()
            stdout, stderr = await process.communicate(stdin)
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            raise self.error(stderr.decode())
        return list(_documents(stdout.decode()))

    def command(self, path, headers, seconds):
        raise NotImplementedError

    def error(self, output):
        raise NotImplementedError


class GrpCurl(_Program):
    """grpc-go, in `grpcurl`."""

    def command(self, path, headers, seconds):
        options = [option for header in headers for option in ("-rpc-header", header)]
        return [
            *("grpcurl", "-plaintext", "-protoset", self.schema, "-format-error"),
            *("-max-time", str(seconds), *options, "-d", "@", self.target, path),
        ]

    def error(self, output):
        status = json.loads(output)
        return EndedError(name_of(status["code"]), status.get("message", ""))


class BufCurl(_Program):
    """connect-go, in `buf curl`."""

    def command(self, path, headers, seconds):
        options = [option for header in headers for option in ("--header", header)]
        return [
            *("buf", "curl", "--protocol", "grpc", "--http2-prior-knowledge"),
            *("--schema", self.schema, "--timeout", f"{seconds}s", *options),
            *("--data", "@-", f"http://{self.target}/{path}"),
        ]

    def error(self, output):
        status = json.loads(output)
        return EndedError(status["code"].upper(), status.get("message", ""))


def _documents(text):
    decoder, position = json.JSONDecoder(), 0
    while match := re.compile(r"\S").search(text, position):
        document, position = decoder.raw_decode(text, match.start())
        yield document
