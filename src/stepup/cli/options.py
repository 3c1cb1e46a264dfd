"""What commands with the settings of a server share: options, settings, reports of failures."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stepup import settings as config
from stepup.cli.output import failure
from stepup.domain.errors import StoreUnavailableError

_CONFIG = "STEPUP_CONFIG"
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar=_CONFIG, help="A TOML file with settings."),
]
# Text, not Path: an empty path would become the current directory before the settings refuse it.
DataDir = Annotated[
    str | None,
    typer.Option(metavar="DIRECTORY", help="The directory of the embedded stores and keys."),
]


def settings_of(file: Path | None, **flags: dict[str, Any]) -> config.Settings:
    """Read the settings of a command. A flag that is None was not given.

    Raises:
        typer.Exit: a setting is not valid; standard error says which.
    """
    try:
        return load(file, **flags)
    except config.ConfigurationError as error:
        raise failure(error) from error


def load(file: Path | None, **flags: dict[str, Any]) -> config.Settings:
    """Read the settings as `settings_of`, for a caller that continues without them.

    Raises:
        ConfigurationError: a setting is not valid.
    """
    if file is None and os.environ.get(_CONFIG) == "":
        raise config.ConfigurationError(f"{_CONFIG}: must be a path, and is empty")
    return config.load(file, **flags)


def run(work: Any) -> Any:
    """Run a command's coroutine; return its result.

    Raises:
        typer.Exit: as `problems_reported`.
    """
    with problems_reported():
        return asyncio.run(work)


@contextmanager
def problems_reported() -> Iterator[None]:
    """Report failures that an operator can mend, on standard error.

    Raises:
        typer.Exit: the block failed because of the configuration or a store.
    """
    try:
        yield
    except config.ConfigurationError as error:
        raise failure(error) from error
    except StoreUnavailableError as error:
        raise failure(error.fault) from error
