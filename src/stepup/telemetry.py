"""Logs, one JSON object per line or coloured lines for people; and the port of the metrics.

A metric is defined where it is counted. Its labels have values of the configuration or of the code,
never of a call: the number of series must not grow with tenants, users or what callers send.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Literal

import structlog
from prometheus_client import Gauge, start_http_server

Format = Literal["json", "console"]

_build = Gauge(
    "stepup_build_info",
    "Always 1; the label says which version runs.",
    ["version"],
    multiprocess_mode="livemax",
)


def configure_logging(level: str, log_format: Format) -> None:
    """Set up structlog once, at start.

    Args:
        level: the lowest level that is written: debug, info, warning or error.
        log_format: `json`, or `console` for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        # A stack without local variables: they could be a code or a secret (S11).
        rendering: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendering = [
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


@contextmanager
def metrics_served(host: str, port: int) -> Iterator[int]:
    """Serve all metrics over HTTP for as long as the block lasts; yields the port.

    Threads of their own do it: a scrape is answered also when the event loop is stuck.

    Raises:
        OSError: the address cannot be listened on.
    """
    _build.labels(version("stepup")).set(1)
    server, thread = start_http_server(port, host)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
