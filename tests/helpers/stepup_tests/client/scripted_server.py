"""A server in this process that answers each call as a test says."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from stepup.client import rpcs
from stepup.client.rpc import Rpc

NO_RESENDS = (("grpc.enable_retries", 0),)
BY_PATH = {rpc.path: rpc for rpc in vars(rpcs).values() if isinstance(rpc, Rpc)}


class RefusedError(Exception):
    """A script raises this error to end a call with a status."""

    def __init__(self, code, reason="", *, field="", retry_after=None, details=None):
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.message = "refused"
        self.field = field
        self.retry_after = retry_after
        self.details = details or {}

    def abort(self, context: grpc.ServicerContext) -> None:
        status = Status(code=self.code.value[0], message=self.message)
        found: list[Message] = []
        if self.reason:
            found.append(ErrorInfo(reason=self.reason, domain="stepup", metadata=self.details))
        if self.field:
            violation = BadRequest.FieldViolation(field=self.field, description="must be right")
            found.append(BadRequest(field_violations=[violation]))
        if self.retry_after is not None:
            retry = RetryInfo()
            retry.retry_delay.FromMilliseconds(int(self.retry_after * 1000))
            found.append(retry)
        for message in found:
            detail = AnyMessage()
            detail.Pack(message)
            status.details.append(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.code, self.message)


Script = Callable[[Any, grpc.ServicerContext], Any]


class ScriptedServer(grpc.GenericRpcHandler):
    """Answers each call with the next entry of the script of its method; the last entry stays.

    An entry is a response, bytes, an exception, or a function of the request and the context.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.seconds_left: list[float] = []
        self.address = ""
        self._scripts: dict[str, list[Any]] = {}

    def script(self, rpc: Rpc[Any, Any], *entries: Any) -> None:
        self._scripts[rpc.path] = list(entries)

    def requests(self, rpc: Rpc[Any, Any]) -> list[Any]:
        return [request for path, request in self.calls if path == rpc.path]

    def service(self, handler_call_details):
        rpc = BY_PATH[handler_call_details.method]
        metadata = dict(handler_call_details.invocation_metadata)

        def unary(request, context):
            return next(stream(request, context, is_stream=False))

        def stream(request, context, *, is_stream=True):
            self.calls.append((rpc.path, request))
            self.metadata.append(metadata)
            self.seconds_left.append(context.time_remaining())
            try:
                answer = self._next(rpc, request, context)
                for each in answer if is_stream else [answer]:
                    if isinstance(each, Exception):
                        raise each
                    yield each
            except RefusedError as refused:
                refused.abort(context)

        if rpc.is_stream:
            return grpc.unary_stream_rpc_method_handler(stream, rpc.request.FromString, _encoded)
        return grpc.unary_unary_rpc_method_handler(unary, rpc.request.FromString, _encoded)

    def _next(self, rpc, request, context):
        entries = self._scripts.get(rpc.path) or [RefusedError(grpc.StatusCode.UNIMPLEMENTED)]
        entry = entries.pop(0) if len(entries) > 1 else entries[0]
        return entry(request, context) if callable(entry) else entry


def _encoded(answer):
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


@contextmanager
def scripted_server(
    address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    server = grpc.server(ThreadPoolExecutor(8), [scripted])
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    scripted.address = address.replace(":0", f":{port}")
    server.start()
    try:
        yield scripted
    finally:
        server.stop(None).wait()
