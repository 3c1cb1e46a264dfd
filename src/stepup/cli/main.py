"""The commands."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from stepup import config
from stepup.bootstrap import database_url_of, make_data_dir, running
from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql import upgrade
from stepup.telemetry import configure_logging

app = typer.Typer(
    help="Step-up authorization: must this person give a one-time code first?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its stacks show local variables, and so secrets (S11)
)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="STEPUP_CONFIG", help="A TOML file with settings."),
]
DataDir = Annotated[Path | None, typer.Option(help="The directory of everything that is embedded.")]


@app.callback()
def _before_any_command() -> None:
    # Whatever a command writes is for its owner only.
    os.umask(0o077)


@app.command()
def serve(
    config_file: ConfigFile = None,
    listen: Annotated[str | None, typer.Option(help="Host and port; port 0 takes any.")] = None,
    data_dir: DataDir = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
) -> None:
    """Serve the gRPC API: without a configuration on loopback, with embedded stores."""
    settings = _settings(
        config_file,
        server={"listen": listen},
        storage={"data_dir": data_dir},
        log={"level": log_level, "format": log_format},
    )
    configure_logging(settings.log.level, settings.log.format)
    _run(_serve(settings))


@app.command()
def check_config(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Validate the configuration, and show what is in effect; URLs are not shown."""
    settings = _settings(config_file, storage={"data_dir": data_dir})
    for name, value in config.in_effect(settings):
        typer.echo(f"{name} = {value}")
    typer.echo(f"{sum(len(members) for _, members in settings.operations)} operations")


@app.command()
def migrate(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date; do so before a new version serves."""
    settings = _settings(config_file, storage={"data_dir": data_dir})
    _run(_migrate(settings))
    typer.echo("the schema is up to date")


@app.command()
def demo() -> None:
    """Start a server with a throw-away data directory, and play the main job through its API."""
    from stepup.cli.demo import run  # noqa: PLC0415  # a server needs none of its output

    raise typer.Exit(run())


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


def _settings(file: Path | None, **flags: dict[str, Any]) -> config.Settings:
    given = {
        section: {field: value for field, value in fields.items() if value is not None}
        for section, fields in flags.items()
    }
    try:
        return config.load(file, **{section: fields for section, fields in given.items() if fields})
    except config.ConfigurationError as error:
        raise _failure(error) from error


def _run(work: Any) -> None:
    try:
        asyncio.run(work)
    except (config.ConfigurationError, StoreUnavailableError) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> typer.Exit:
    typer.echo(f"stepup: {error}", err=True)
    return typer.Exit(2)
