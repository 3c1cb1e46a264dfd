"""Logs, one JSON object per line or coloured lines for people; and the port of the metrics.

A metric is defined where it is counted. Its labels have values of the configuration or of the code,
never of a call: the number of series must not grow with tenants, users or what callers send.
"""

import faulthandler
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EBADF
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, disable_created_metrics

from stepup.system import distribution
from stepup.system.outlet import Outlet
from stepup.telemetry.log_lines import (
    LinesOfATurn,
    Sink,
    StandardError,
    as_json_line,
    as_printable_line,
)
from stepup.telemetry.metrics_server import MetricsServer
from stepup.telemetry.worker_metrics import WorkerMetrics

LogFormat = Literal["json", "console"]

_build = Gauge(
    "stepup_build_info",
    "Always 1; the label says which version runs.",
    ["version"],
    multiprocess_mode="livemax",
)


def configure_logging(level: str, log_format: LogFormat) -> None:
    """Set up structlog once, at start; what else is written to standard error goes the same way.

    No line that is logged raises, or waits for a reader: see `LinesOfATurn`.
    `level` is the lowest level that is written: debug, info, warning or error.
    """
    sink = _standard_error()
    lines = LinesOfATurn(sink)
    rendering: list[structlog.typing.Processor]
    if log_format == "json":
        # A stack without local variables: they could be a code or a secret (S11).
        rendering = [structlog.processors.format_exc_info, as_json_line]
    else:
        rendering = [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _escape_values,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
            _encode,
        ]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    # Tracebacks, warnings, and what the standard library logs by itself, such as asyncio.
    sys.stderr = StandardError(lines, sink.descriptor)
    if faulthandler.is_enabled():  # by PYTHONFAULTHANDLER; a server gives descriptor 2 to grpc
        faulthandler.enable(sink.descriptor)
    if not any(isinstance(handler, _ToTheLog) for handler in logging.root.handlers):
        logging.root.addHandler(_ToTheLog(logging.WARNING))


def info_writer() -> Callable[[str, dict[str, Any]], None]:
    """Return a function that writes lines of level info, for lines that every call writes.

    The function takes an event and its fields, and may add to the fields. A line is the same as
    one of structlog with the configuration of now, but costs a third of the time.
    """
    config, log = structlog.get_config(), structlog.get_logger()
    if config["processors"][-1] is not as_json_line or not log.is_enabled_for(logging.INFO):
        return lambda event, fields: log.info(event, **fields)
    lines: LinesOfATurn = config["logger_factory"]()

    def write(event: str, fields: dict[str, Any]) -> None:
        fields["event"] = event
        fields["level"] = "info"
        lines.later(as_json_line(None, "info", fields))

    return write


def _standard_error() -> Sink:
    try:
        return Outlet.to(sys.__stderr__)  # type: ignore[arg-type]  # None where it was closed at start
    except (AttributeError, OSError, ValueError):
        return _Closed()


class _Closed:
    """In place of a standard error that was closed before the process began."""

    descriptor = 2

    def write(self, _octets: bytes) -> int:
        raise OSError(EBADF, "standard error is closed")

    def portions(self, lines: list[bytes]) -> list[bytes]:
        return lines


class _ToTheLog(logging.Handler):
    """What libraries log by the standard library, as lines of our log."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):  # a message whose arguments do not fit, for one
            log = structlog.get_logger(record.name)
            log.log(
                record.levelno,
                "library_message",
                logger=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )


def _escape_values(
    _logger: Any, _method: str, fields: structlog.typing.EventDict
) -> structlog.typing.ProcessorReturnValue:
    """Escape what a terminal could take for a command; the renderer's colours come later."""
    return {
        name: as_printable_line(value)[:-1].decode() if isinstance(value, str) else value
        for name, value in fields.items()
    }


def _encode(_logger: Any, _method: str, rendered: Any) -> structlog.typing.ProcessorReturnValue:
    return f"{rendered}\n".encode("ascii", "backslashreplace")


def metrics_of_workers(registry: CollectorRegistry, directory: Path) -> WorkerMetrics:
    """Have a registry show the metrics of all workers that write to a directory."""
    registry.register(_build)
    return WorkerMetrics(registry, directory)


@contextmanager
def metrics_served(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> Iterator[int]:
    """Serve a registry's metrics over HTTP for as long as the block lasts; yields the port.

    Threads of their own do it: a scrape is answered also when the event loop is stuck.

    Raises:
        OSError: the address cannot be listened on.
    """
    # When a series began: one more of each, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    _build.labels(distribution.version()).set(1)
    server = MetricsServer(host, port, registry)
    thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
