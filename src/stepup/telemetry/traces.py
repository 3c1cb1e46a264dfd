"""Spans of calls, recorded with OpenTelemetry's SDK and exported over OTLP.

Imported only if traces are configured, because OpenTelemetry comes with the extra `otel`. Spans
wait in a queue of limited length for a thread that exports them: a collector that is slow, hangs or
is down loses spans, and never delays a call.
"""

import asyncio
import logging
from collections.abc import Sequence
from uuid import uuid4

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from stepup.system import distribution
from stepup.telemetry.spans import Attributes, CallSpan, TraceParent, exported, recorded

FLUSH_SECONDS = 3.0
"""How long the end of a server waits for the last spans to be exported."""
_NO_PARENT = Context()
_FAILED = Status(StatusCode.ERROR)
_log = structlog.get_logger(__name__)


class Traces:
    """Begins the spans of calls.

    Args:
        sample_ratio: of the calls whose caller says nothing of a trace, the share that is recorded.
    """

    def __init__(self, processor: SpanProcessor, sample_ratio: float) -> None:
        provider = TracerProvider(
            ParentBased(TraceIdRatioBased(sample_ratio)), _resource(), shutdown_on_exit=False
        )
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("stepup", distribution.version())

    def begin(self, name: str, parent: TraceParent | None, began: int) -> CallSpan | None:
        """Record a call that began at so many nanoseconds since 1970; None if its trace is not.

        A caller's word counts: what it records is recorded, what it does not is not.
        """
        context = _NO_PARENT if parent is None else _context_of(parent)
        span = self._tracer.start_span(name, context, SpanKind.SERVER, start_time=began)
        return _CallSpan(self._tracer, span) if isinstance(span, Span) else None


class _CallSpan:
    """Implements `CallSpan`."""

    __slots__ = ("_context", "_span", "_tracer", "trace_id")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span, _NO_PARENT)
        self.trace_id = f"{span.context.trace_id:032x}"

    def add(self, name: str, began: int, *, failed: bool) -> None:
        """Record a part that ends now, and began at so many nanoseconds since 1970."""
        part = self._tracer.start_span(name, self._context, SpanKind.CLIENT, start_time=began)
        if failed:
            part.set_status(_FAILED)
        part.end()
        recorded.inc()

    def end(self, attributes: Attributes, *, failed: bool) -> None:
        """Record the call, which ends now."""
        self._span.set_attributes(attributes)
        if failed:
            self._span.set_status(_FAILED)
        self._span.end()
        recorded.inc()


def _context_of(parent: TraceParent) -> Context:
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    trace, span = int(parent.trace_id, 16), int(parent.span_id, 16)
    remote = SpanContext(trace, span, is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote), _NO_PARENT)


def _resource() -> Resource:
    """Return the resource of the spans; variables such as `OTEL_SERVICE_NAME` take precedence.

    The variables do not set the instance, because several workers share one environment.
    """
    ours = Resource({"service.name": "stepup", "service.version": distribution.version()})
    instance = Resource({"service.instance.id": str(uuid4())})
    return ours.merge(OTELResourceDetector().detect()).merge(instance)


class Exporting:
    """Exports spans in the background, and logs failures.

    The standard variables `OTEL_BSP_*` set the size and the delay of the queue: 2048, 5 seconds.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.processor = BatchSpanProcessor(_Watched(exporter))

    async def close(self) -> None:
        """Export what is left, as far as it goes in `FLUSH_SECONDS`."""
        flushing = asyncio.create_task(asyncio.to_thread(self.processor.shutdown))
        done, _ = await asyncio.wait([flushing], timeout=FLUSH_SECONDS)
        if not done:
            # It breaks off the export under way, and every further one fails at once.
            self._exporter.shutdown()
        await flushing


class _Watched(SpanExporter):
    """Counts exported spans; logs the first failure and the first success after a failure."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._problem = _LatestProblem()
        self._succeeds = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; OpenTelemetry does so in one thread of its own."""
        try:
            result = self._exporter.export(spans)
        except BaseException as error:  # noqa: BLE001  # its thread would end by some, such as CancelledError
            self._problem.text = type(error).__name__
            result = SpanExportResult.FAILURE
        succeeds = result is SpanExportResult.SUCCESS
        if succeeds:
            exported.inc(len(spans))
        if succeeds != self._succeeds:
            self._succeeds = succeeds
            if succeeds:
                _log.warning("traces_are_exported_again")
            else:
                _log.warning("traces_are_not_exported", problem=self._problem.text)
        return result

    def shutdown(self) -> None:
        """End an export under way; no further one succeeds."""
        self._exporter.shutdown()


class _LatestProblem(logging.Handler):
    """Keeps the latest message that OpenTelemetry would log repeatedly, and not as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        logger = logging.getLogger("opentelemetry")
        logger.propagate = False
        # A warning for each span that finds the queue full would cost more than the span.
        logger.setLevel(logging.ERROR)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
