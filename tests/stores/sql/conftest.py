"""The databases that every promise is tested on: SQLite and PostgreSQL."""

import pytest
from stepup_tests.postgres import backend, new_database, postgres, postgres_template

from stepup.stores.sql import SqlDatabase, upgrade

__all__ = ["backend", "postgres", "postgres_template"]


@pytest.fixture
async def empty_url(backend, sqlite_path):
    if backend is None:
        yield f"sqlite:///{sqlite_path}"
        return
    server, _ = backend
    async with new_database(server) as url:
        yield url


@pytest.fixture
async def url(backend, sqlite_path):
    if backend is None:
        await upgrade(f"sqlite:///{sqlite_path}")
        yield f"sqlite:///{sqlite_path}"
        return
    async with new_database(*backend) as url:
        yield url


@pytest.fixture
async def database(url):
    database = SqlDatabase(url)
    yield database
    await database.close()


@pytest.fixture
def sqlite_path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
async def sqlite(sqlite_path):
    await upgrade(f"sqlite:///{sqlite_path}")
    return f"sqlite:///{sqlite_path}"
