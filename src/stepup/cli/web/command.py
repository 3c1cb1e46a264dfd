"""`stepup web`: the pages for people."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import structlog
import typer
from prometheus_client import REGISTRY, CollectorRegistry

from stepup.cli.options import problems_reported
from stepup.settings import ConfigurationError, WebSettings, load_web
from stepup.system.distribution import are_installed, missing_extra
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import configure_logging, metrics_of_workers, metrics_served

_CONFIG = "STEPUP_WEB_CONFIG"
_log = structlog.get_logger(__name__)
MODULES = ("babel", "jinja2", "starlette", "uvicorn")
"""What the extra `web` brings."""


def demand_extra() -> None:
    """Check that the extra `web` is installed.

    Raises:
        ConfigurationError: it is not.
    """
    if not are_installed(*MODULES):
        raise ConfigurationError(f"the web process {missing_extra('web')}")


def web(
    *,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", envvar=_CONFIG, help="A TOML file with settings."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT, where port 0 takes a free port.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="The origin that browsers see: https://HOST.")
    ] = None,
    core: Annotated[
        str | None, typer.Option(help="The core that is called: HOST:PORT, or unix:/PATH.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many processes answer.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Serve the pages of the portal to browsers, as a caller of a core that runs elsewhere."""
    with problems_reported():
        demand_extra()
        if config_file is None and os.environ.get(_CONFIG) == "":
            raise ConfigurationError(f"{_CONFIG}: must be a path, and is empty")
        settings = load_web(
            config_file,
            listen=listen,
            public_url=public_url,
            workers=workers,
            core={"target": core},
            log={"level": log_level, "format": log_format},
        )
        configure_logging(settings.log.level, settings.log.format)
        _serve(settings)


def _serve(settings: WebSettings) -> None:
    # Only this command needs what the extra `web` brings.
    from stepup.web.serving import announce, listening, serve_until_stopped  # noqa: PLC0415
    from stepup.web.workers import run_workers  # noqa: PLC0415

    manager = ServiceManager.take_from_environment()
    with ExitStack() as stack:
        opened = stack.enter_context(listening(settings))
        directory = None
        registry = REGISTRY
        if settings.workers > 1 and settings.metrics is not None:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="stepup-web-")))
            registry = CollectorRegistry()
            metrics_of_workers(registry, directory)
        if settings.metrics is not None:
            try:
                port = stack.enter_context(
                    metrics_served(settings.metrics.host, settings.metrics.port, registry)
                )
            except OSError as error:
                raise ConfigurationError(f"metrics.listen: {error.strerror}") from error
            _log.info("metrics_are_served", address=settings.metrics.address(port))
        announce(settings.address(opened.getsockname()[1]))
        if settings.workers > 1:
            asyncio.run(run_workers(settings, opened, directory, manager))
        else:
            asyncio.run(serve_until_stopped(settings, opened, manager))
