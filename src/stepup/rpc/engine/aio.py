"""The engine on grpc.aio: public API only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from stepup.rpc.call import Invocation
from stepup.rpc.engine import Options, Served, Stream, Unary, is_abandoned, only
from stepup.rpc.errors import Status, to_status, unimplemented

_Context = grpc.aio.ServicerContext[bytes, bytes]


class AioEngine:
    """Serves on grpc.aio; implements `Engine`."""

    def __init__(self, served: Served, options: Options, max_in_flight: int) -> None:
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=max_in_flight)
        self._server.add_generic_rpc_handlers((_Methods(served),))
        self._stopping = asyncio.Lock()

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind an address; returns the port.

        Raises:
            OSError: it cannot be bound.
        """
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error

    async def start(self) -> None:
        """Take calls from now on."""
        await self._server.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and let those in flight finish within the grace."""
        # One after the other: grpc.aio crashes when a second stop outlasts the first.
        async with self._stopping:
            await self._server.stop(grace_seconds)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a path. Without (de)serializers handlers get bytes (S18)."""

    def __init__(self, served: Served) -> None:
        self._handlers = {path: _handler(method) for path, method in served.items()}
        self._unknown: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            _unknown
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        return self._handlers.get(handler_call_details.method, self._unknown)


def _handler(method: Unary | Stream) -> "grpc.RpcMethodHandler[bytes, bytes]":
    match method:
        case Unary(answer):
            # As a stream of requests: grpc.aio leaves a client that sends none without an answer.
            async def unary(payloads: AsyncIterator[bytes], context: _Context) -> bytes:
                try:
                    return await answer(await only(payloads), _invocation(context))
                except (Exception, asyncio.CancelledError) as error:
                    if is_abandoned(error):
                        raise
                    return await _abort(context, to_status(error))

            return grpc.stream_unary_rpc_method_handler(unary)
        case Stream(answers):

            async def stream(payloads: AsyncIterator[bytes], context: _Context) -> None:
                try:
                    async with aclosing(answers(payloads, _invocation(context))) as responses:
                        async for response in responses:
                            await context.write(response)
                except (Exception, asyncio.CancelledError) as error:
                    if is_abandoned(error):
                        raise
                    await _abort(context, to_status(error))

            return grpc.stream_stream_rpc_method_handler(stream)


async def _unknown(_payloads: AsyncIterator[bytes], context: _Context) -> None:
    await _abort(context, unimplemented())


def _invocation(context: _Context) -> Invocation:
    # Asked at once: once the call has ended, the question would end the process. What asks late is
    # a generator that is cleaned up after its call.
    peer = context.peer()
    return Invocation(
        lambda: peer, tuple(context.invocation_metadata() or ()), context.auth_context
    )


async def _abort(context: _Context, status: Status) -> bytes:
    return await context.abort(status.code, status.message, status.trailers)
