"""A collector of traces: takes OTLP over gRPC, as the OpenTelemetry Collector does."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(TraceServiceServicer):
    """Keeps what it is sent. While `goes_on` is not set it answers nobody."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.endpoint = ""
        self.goes_on = Event()
        self.goes_on.set()
        self.asked = Event()

    def Export(  # noqa: N802  # gRPC's name for it
        self, request: ExportTraceServiceRequest, _context: Any
    ) -> ExportTraceServiceResponse:
        self.asked.set()
        self.goes_on.wait()
        self.requests.append(request)
        return ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order in which they came."""
        return [span for scope in self._scopes() for span in scope.spans]

    @property
    def instances(self) -> set[str]:
        """Who has sent something, by the id of the instance."""
        return {
            attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.instance.id"
        }

    @property
    def written(self) -> bytes:
        """All that came, as it came."""
        return b"\n".join(request.SerializeToString() for request in self.requests)

    def spans_of(self, trace: str) -> list[Span]:
        """The spans of a trace."""
        return [span for span in self.spans if span.trace_id.hex() == trace]

    def _scopes(self) -> Iterator[Any]:
        for request in self.requests:
            for resource in request.resource_spans:
                yield from resource.scope_spans


@contextmanager
def collecting(
    port: int = 0, credentials: grpc.ServerCredentials | None = None
) -> Iterator[Collector]:
    """A collector on a port of this machine."""
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(collector, server)
    if credentials is None:
        taken = server.add_insecure_port(f"127.0.0.1:{port}")
        collector.endpoint = f"http://127.0.0.1:{taken}"
    else:
        taken = server.add_secure_port(f"127.0.0.1:{port}", credentials)
        collector.endpoint = f"https://localhost:{taken}"
    server.start()
    try:
        yield collector
    finally:
        collector.goes_on.set()
        server.stop(0).wait()


@contextmanager
def silent() -> Iterator[str]:
    """An endpoint where a connection opens and nothing ever comes: a collector that is frozen."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def attributes(span: Span) -> dict[str, Any]:
    """The attributes of a span, by name."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
    }
