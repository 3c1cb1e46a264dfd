"""The traces that the settings demand."""

from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import grpc
import structlog

from stepup.rpc.pipeline.pipeline import BeginSpan
from stepup.settings import ConfigurationError, TracesSettings, UnusableFileError
from stepup.system import pem
from stepup.system.distribution import are_installed, missing_extra
from stepup.system.loopback import NO_GRPC_PROXY, is_loopback

_log = structlog.get_logger(__name__)


def begin_span_of(traces: TracesSettings | None, stack: AsyncExitStack) -> BeginSpan | None:
    """The function that begins the span of each call. Spans are exported until the stack closes.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
        UnusableFileError: a file cannot be used.
    """
    if traces is None:
        return None
    _demand_open_telemetry()
    credentials = _credentials(traces)
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  # an extra
        OTLPSpanExporter,
    )

    from stepup.telemetry.traces import Exporting, Traces  # noqa: PLC0415  # needs it, too

    is_local = is_loopback(urlsplit(traces.endpoint).hostname or "")
    exporter = OTLPSpanExporter(
        traces.endpoint,
        insecure=not traces.has_tls,
        credentials=credentials,
        # The type demands text; grpc needs a number here.
        channel_options=NO_GRPC_PROXY if is_local else None,  # type: ignore[arg-type]
    )
    exporting = Exporting(exporter)
    stack.push_async_callback(exporting.close)
    _log.info("traces_are_exported", endpoint=traces.endpoint)
    return Traces(exporting.processor, traces.sample_ratio).begin


def check_traces(traces: TracesSettings | None) -> None:
    """Demand settings of traces with which a server starts. The collector need not answer.

    Raises:
        ConfigurationError: as `begin_span_of`.
        UnusableFileError: as `begin_span_of`.
    """
    if traces is not None:
        _demand_open_telemetry()
        _credentials(traces)


def _demand_open_telemetry() -> None:
    # Modules of the extra's packages: other libraries bring the API alone.
    if not are_installed("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc"):
        raise ConfigurationError(f"traces: OpenTelemetry {missing_extra('otel')}")


def _credentials(traces: TracesSettings) -> grpc.ChannelCredentials | None:
    """Credentials that trust `ca_file`; None leaves the choice to OpenTelemetry's variables."""
    if traces.ca_file is None:
        return None
    try:
        authorities = pem.parse_certificates(pem.read(traces.ca_file))
    except pem.PemError as error:
        raise UnusableFileError(f"traces.ca_file: {traces.ca_file}: {error}") from error
    return grpc.ssl_channel_credentials(pem.to_pem(authorities))
