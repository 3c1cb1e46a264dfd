"""What the commands have in common: options, settings, and how they fail."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from stepup import settings as config
from stepup.domain.errors import StoreUnavailableError

_CONFIG = "STEPUP_CONFIG"
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar=_CONFIG, help="A TOML file with settings."),
]
# Text: an empty path would have become the current directory before the settings refuse it.
DataDir = Annotated[
    str | None,
    typer.Option(metavar="DIRECTORY", help="The directory of everything that is embedded."),
]


def settings_of(file: Path | None, **flags: dict[str, Any]) -> config.Settings:
    """The settings of a command; a flag that is None was not given.

    Raises:
        typer.Exit: they are not valid; it was said what is wrong.
    """
    try:
        return load(file, **flags)
    except config.ConfigurationError as error:
        raise failure(error) from error


def load(file: Path | None, **flags: dict[str, Any]) -> config.Settings:
    """The same for who goes on when they are not valid.

    Raises:
        ConfigurationError: they are not.
    """
    if file is None and os.environ.get(_CONFIG) == "":
        raise config.ConfigurationError(f"{_CONFIG}: must be a path, and is empty")
    return config.load(file, **flags)


def run(work: Any) -> Any:
    """Run a command's coroutine; returns its result.

    Raises:
        typer.Exit: it failed in a way that an operator can do something about, and that was said.
    """
    with problems_reported():
        return asyncio.run(work)


@contextmanager
def problems_reported() -> Iterator[None]:
    """Report a failure that an operator can do something about.

    Raises:
        typer.Exit: there was one.
    """
    try:
        yield
    except (config.ConfigurationError, StoreUnavailableError) as error:
        raise failure(error) from error


def failure(error: Exception | str) -> typer.Exit:
    """Say what is wrong, and give the exit of a command that did not do what it should."""
    with suppress(OSError):  # nobody reads it: the exit status says the rest
        typer.echo(f"stepup: {error}", err=True)
    return typer.Exit(2)
