"""The service of gRPC's interoperability tests, on what every engine takes: bytes."""

import asyncio

import grpc
from stepup_tests.interop.schema import SERVICE, message

from stepup.rpc.engine import StreamMethod, UnaryMethod, only
from stepup.rpc.wire.errors import RefusedError, Status

CODES = {code.value[0]: code for code in grpc.StatusCode}


class InteropService:
    """Does what a request says; of streams of requests it tells when they begin and are over."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.stopped = asyncio.Event()

    @property
    def served(self):
        methods = {
            "EmptyCall": UnaryMethod(self.empty_call),
            "UnaryCall": UnaryMethod(self.unary_call),
            "StreamingOutputCall": StreamMethod(self.streaming_output_call),
            "StreamingInputCall": StreamMethod(self.streaming_input_call),
            "FullDuplexCall": StreamMethod(self.full_duplex_call),
        }
        return {f"/{SERVICE}/{name}": method for name, method in methods.items()}

    async def empty_call(self, _payload, _invocation):
        return b""

    async def unary_call(self, payload, invocation):
        request = message("SimpleRequest").FromString(payload)
        _end_as_told(request)
        response = message("SimpleResponse")(payload=_zeros(request.response_size))
        seen = dict(invocation.metadata)
        response.seen_text = seen.get("x-grpc-test-text", "")
        response.seen_octets = seen.get("x-grpc-test-octets-bin", b"")
        return response.SerializeToString()

    async def streaming_output_call(self, payloads, _invocation):
        request = message("StreamingOutputCallRequest").FromString(await only(payloads))
        async for response in self._told(request):
            yield response

    async def streaming_input_call(self, payloads, _invocation):
        kind = message("StreamingInputCallRequest")
        self.begun.set()
        try:
            sizes = [len(kind.FromString(payload).payload.body) async for payload in payloads]
        finally:
            self.stopped.set()
        response = message("StreamingInputCallResponse")(aggregated_payload_size=sum(sizes))
        yield response.SerializeToString()

    async def full_duplex_call(self, payloads, _invocation):
        try:
            async for payload in payloads:
                self.begun.set()
                request = message("StreamingOutputCallRequest").FromString(payload)
                async for response in self._told(request):
                    yield response
        finally:
            self.stopped.set()

    async def _told(self, request):
        _end_as_told(request)
        for parameters in request.response_parameters:
            await asyncio.sleep(parameters.interval_us / 1_000_000)
            response = message("StreamingOutputCallResponse")(payload=_zeros(parameters.size))
            yield response.SerializeToString()


def _zeros(size):
    return message("Payload")(body=bytes(size))


def _end_as_told(request):
    status = request.response_status
    if status.code:
        raise RefusedError(Status(CODES[status.code], status.message, "", b""))
