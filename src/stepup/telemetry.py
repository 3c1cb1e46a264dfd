"""Logs: one JSON object per line on standard error, or coloured lines for people."""

import logging
import sys
from typing import Literal

import structlog

Format = Literal["json", "console"]


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
