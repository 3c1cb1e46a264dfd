"""`stepup serve`: the gRPC API."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer

from stepup.cli.options import ConfigFile, DataDir, load, run, settings_of
from stepup.cli.web.trial import flags_of_trial, trial_web_process
from stepup.process.serving import announce_address, serve_until_stopped
from stepup.process.workers import run_workers
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import configure_logging
from stepup.wiring.running_server import RunningServer


def serve(
    *,
    config_file: ConfigFile = None,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT, where port 0 takes a free port; or unix:/PATH."),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="auto, core or aio.")] = None,
    workers: Annotated[int | None, typer.Option(help="How many processes serve.")] = None,
    data_dir: DataDir = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Serve callers without credentials: for a trial."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Serve the gRPC API. Without a configuration it listens on loopback, with embedded stores.

    Callers need credentials. With --insecure they need none: any program on this machine may call
    and claim anything; if server.insecure_anyone_on_the_network_is_trusted is set, any program on
    the network.
    """
    flags: dict[str, dict[str, Any]] = {
        "server": {"listen": listen, "insecure": insecure, "engine": engine, "workers": workers},
        "storage": {"data_dir": data_dir},
        "log": {"level": log_level, "format": log_format},
    }
    settings = settings_of(config_file, **flags)
    configure_logging(settings.log.level, settings.log.format)
    manager = ServiceManager.take_from_environment()
    with ExitStack() as stack:
        if of_trial := flags_of_trial(settings):
            flags |= of_trial
            settings = settings_of(config_file, **flags)

        async def announce(server: RunningServer) -> None:
            await announce_address(server)
            if of_trial:  # not before the server serves: it may be refused
                stack.enter_context(trial_web_process(settings))

        if settings.server.workers > 1:
            if of_trial:
                stack.enter_context(trial_web_process(settings))
            raise typer.Exit(run(run_workers(settings, config_file, flags, manager)))
        reload = partial(load, config_file, **flags)
        run(serve_until_stopped(settings, reload, announce, manager))
