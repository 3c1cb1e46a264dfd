"""Bring a database's schema to a revision, and check whether it is the one that this code needs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal, TypeVar

from sqlalchemy import URL, Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from stepup.domain.errors import StoreUnavailableError
from stepup.stores.sql.connection import uninterrupted
from stepup.stores.sql.engine import parse_url, read_engine, write_engine
from stepup.stores.sql.faults import describe_place, unavailable
from stepup.stores.sql.limits import Limits
from stepup.stores.sql.migrations import REVISIONS
from stepup.stores.sql.rights import excessive_rights, grant_to_server
from stepup.stores.sql.server_check import demand_usable_server

_T = TypeVar("_T")
_MIGRATING = Limits.lasting(timedelta(minutes=5))
_LOCK = 0x73746570_7570  # "stepup": the advisory lock of a migration


class SchemaRevisionError(StoreUnavailableError):
    """The schema has another revision than this code needs, or one that it does not know."""


async def upgrade(url: str, revision: str = "head", *, grant_to: str | None = None) -> None:
    """Bring the schema up to a revision, in one transaction; create a missing SQLite file.

    Several processes may call it at once: one migrates, the others wait and find nothing to do.

    Args:
        url: the database, with the role that owns the tables.
        revision: the wanted revision.
        grant_to: the role that serves, on PostgreSQL: it is granted the rights that a server needs
            to every table.

    Raises:
        GrantError: the role does not exist, or could do more than it is granted.
        SchemaRevisionError: the database's revision, or the wanted one, is not known.
        UnusableServerError: see `demand_usable_server`.
        StoreUnavailableError: the database cannot be reached or changed.
    """
    place = describe_place(parse_url(url))

    def work(connection: Connection) -> None:
        _migrate(connection, place, revision, "up")
        if grant_to is not None:
            grant_to_server(connection, grant_to)

    await demand_usable_server(url, _MIGRATING)
    await transact(url, work, create=True)


async def downgrade(url: str, revision: str) -> None:
    """Take the schema down to a revision, `base` for none; data that does not fit there is lost.

    Raises:
        SchemaRevisionError: the database's revision, or the wanted one, is not known.
        StoreUnavailableError: the database cannot be reached or changed.
    """
    place = describe_place(parse_url(url))
    await transact(url, lambda connection: _migrate(connection, place, revision, "down"))


async def check_schema(url: str, limits: Limits = Limits()) -> None:
    """Refuse a server, or a schema, that this code cannot use.

    Raises:
        SchemaRevisionError: the schema has another revision.
        UnusableServerError: see `demand_usable_server`.
        StoreUnavailableError: the database cannot be reached.
    """
    await demand_usable_server(url, limits)
    found = await _read(url, _current, limits)
    place = describe_place(parse_url(url))
    if not found:
        raise SchemaRevisionError(f"{place} has no schema of stepup: run `stepup migrate`")
    _demand_known(found, place)
    if found != REVISIONS[-1:]:
        raise _wrong_revision(found, place, "run `stepup migrate`")


async def audit_rights(url: str, limits: Limits = Limits()) -> list[str]:
    """Why the URL's role could rewrite the audit trail (S14): each completes "it ...".

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    return await _read(url, excessive_rights, limits)


async def transact(url: str, work: Callable[[Connection], _T], *, create: bool = False) -> _T:
    """Run work on the whole database in one transaction, which may take minutes per statement.

    Raises:
        StoreUnavailableError: the database cannot be reached, read or changed.
    """
    parsed = parse_url(url)
    engine = write_engine(parsed, _MIGRATING, create=create)
    return await uninterrupted(_run(parsed, engine, work))


async def _read(url: str, work: Callable[[Connection], _T], limits: Limits) -> _T:
    """Run work that only reads, and so waits for no writer of SQLite."""
    parsed = parse_url(url)
    return await uninterrupted(_run(parsed, read_engine(parsed, limits), work))


async def _run(url: URL, engine: AsyncEngine, work: Callable[[Connection], _T]) -> _T:
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except StoreUnavailableError:
        raise
    except Exception as error:
        raise unavailable(url, error) from error
    finally:
        await engine.dispose()


def _current(connection: Connection) -> tuple[str, ...]:
    """The revision of the schema as alembic has recorded it; empty without a schema."""
    if not inspect(connection).has_table("alembic_version"):
        return ()
    return tuple(connection.scalars(text("SELECT version_num FROM alembic_version")))


def _demand_known(found: tuple[str, ...], place: str) -> None:
    if not set(found) <= set(REVISIONS):
        remedy = "it is of another version: use the version of stepup that has migrated it"
        raise _wrong_revision(found, place, remedy)


def _wrong_revision(found: tuple[str, ...], place: str, remedy: str) -> SchemaRevisionError:
    return SchemaRevisionError(
        f"{place} has a schema of revision {', '.join(found)}, and this version needs"
        f" {REVISIONS[-1]}: {remedy}"
    )


def _migrate(
    connection: Connection, place: str, revision: str, direction: Literal["up", "down"]
) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    found = _current(connection)
    _demand_known(found, place)
    if revision not in {*REVISIONS, "head", "base"}:
        raise SchemaRevisionError(f"this version does not know the schema revision {revision}")
    if (revision, found) != ("head", REVISIONS[-1:]):
        from stepup.stores.sql import alembic_runner  # noqa: PLC0415  # only a migration needs it

        alembic_runner.run(connection, revision, direction)
