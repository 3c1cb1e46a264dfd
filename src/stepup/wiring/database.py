"""The database that the settings name. Every command opens, checks and migrates it here.

So a fault of the database has the same message in each command.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stepup.settings import ConfigurationError, Settings, UnusableFileError
from stepup.stores.sql import Limits, SqlDatabase, check_schema, upgrade
from stepup.stores.sql.engine import check_tls_files, parse_url
from stepup.system.pem import PemError


def make_data_dir(settings: Settings) -> None:
    """Make the data directory, for our user only, if the settings need it and it is missing.

    Raises:
        ConfigurationError: the directory cannot be made.
    """
    if settings.storage.embeds_nothing and settings.log.decisions is not None:
        return
    directory = settings.storage.in_data_dir("")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"storage.data_dir: {directory} cannot be made: {error.strerror}"
        ) from error


def database_url_of(settings: Settings) -> str:
    """The URL of the configured database, or of the SQLite file in the data directory."""
    url = settings.storage.database_url
    if url is not None:
        return url.get_secret_value()
    return f"sqlite+aiosqlite:///{embedded_database_file(settings).absolute()}"


def embedded_database_file(settings: Settings) -> Path:
    """The SQLite file in the data directory."""
    return settings.storage.in_data_dir("stepup.db")


@asynccontextmanager
async def open_database(
    settings: Settings, limits: Limits | None = None
) -> AsyncIterator[SqlDatabase]:
    """Open the database for as long as the block lasts, after `check_database`.

    Without `limits`, those of the settings count.

    Raises:
        UnusableFileError: as `check_database`.
        StoreUnavailableError: as `check_database`.
    """
    limits = limits or settings.storage.database.limits
    await check_database(settings, limits)
    database = SqlDatabase(database_url_of(settings), limits)
    try:
        yield database
    finally:
        await database.close()


async def check_database(settings: Settings, limits: Limits | None = None) -> None:
    """Demand a database that this version can use, and change nothing.

    Raises:
        UnusableFileError: a PEM file for the connection cannot be used.
        StoreUnavailableError: the server cannot be reached, refuses the role, or works in a way
            that a server of stepup cannot use; or the schema is older or newer than this version
            needs. The message says what to do.
    """
    check_database_files(settings)
    await check_schema(database_url_of(settings), limits or settings.storage.database.limits)


async def migrate_database(settings: Settings, grant_to: str | None = None) -> None:
    """Bring the schema up to date. An embedded database is made if it is missing.

    The role `grant_to` of PostgreSQL, which serves, gets the rights that a server needs.

    Raises:
        ConfigurationError: the data directory cannot be made, or a PEM file cannot be used.
        StoreUnavailableError: as `check_database`, except that the schema may be older; or the
            rights cannot be granted.
    """
    check_database_files(settings)
    if settings.storage.database_url is None:
        make_data_dir(settings)
    await upgrade(database_url_of(settings), grant_to=grant_to)


def check_database_files(settings: Settings) -> None:
    """Find PEM files with which no connection to the database succeeds.

    Raises:
        UnusableFileError: a file cannot be used; the message names the file.
    """
    if settings.storage.database_url is not None:
        try:
            check_tls_files(parse_url(database_url_of(settings)))
        except PemError as error:
            raise UnusableFileError(f"storage.database_url: {error}") from error
