"""The commands."""

import asyncio
import os
import signal
from typing import Annotated

import typer

from stepup import config
from stepup.bootstrap import database_url_of, make_data_dir, running
from stepup.cli import audit, keys
from stepup.cli.check_config import check_config
from stepup.cli.options import ConfigFile, DataDir, run, settings_of
from stepup.core_dumps import forbid_core_dumps
from stepup.stores.sql import upgrade
from stepup.telemetry import configure_logging

app = typer.Typer(
    help="Step-up authorization: must this person give a one-time code first?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its stacks show local variables, and so secrets (S11)
)

app.add_typer(audit.app, name="audit")
app.add_typer(keys.app, name="keys")


@app.callback()
def _before_any_command() -> None:
    # Whatever a command writes is for its owner only, and nothing that it knows is dumped (S11).
    os.umask(0o077)
    forbid_core_dumps()


@app.command()
def serve(
    *,
    config_file: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="Host and port; port 0 takes any.")] = None,
    data_dir: DataDir = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Serve callers without credentials: for a trial."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Serve the gRPC API: without a configuration on loopback, with embedded stores.

    Callers need credentials, unless --insecure says otherwise: then any program on this machine
    may call and claim anything.
    """
    settings = settings_of(
        config_file,
        server={"listen": listen, "insecure": insecure},
        storage={"data_dir": data_dir},
        log={"level": log_level, "format": log_format},
    )
    configure_logging(settings.log.level, settings.log.format)
    run(_serve(settings))


app.command()(check_config)


@app.command()
def migrate(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date; do so before a new version serves."""
    settings = settings_of(config_file, storage={"data_dir": data_dir})
    run(_migrate(settings))
    typer.echo("the schema is up to date")


@app.command()
def demo() -> None:
    """Start a server with a throw-away data directory, and play the main job through its API."""
    from stepup.cli.demo import run as play  # noqa: PLC0415  # a server needs none of its output

    raise typer.Exit(play())


async def _serve(settings: config.Settings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running(settings) as address:
        # The one line on standard output: who starts a server on port 0 reads it.
        typer.echo(f"stepup is listening on {address}")
        await stopped.wait()


async def _migrate(settings: config.Settings) -> None:
    if settings.storage.database_url is None:
        make_data_dir(settings)
    await upgrade(database_url_of(settings))
