"""The databases that every promise is tested on.

SQLite always; PostgreSQL when STEPUP_TEST_POSTGRES_URL names a server whose user may create
databases: `postgresql+asyncpg://<user>@<host>/<any database>`.
"""

import os
from uuid import uuid4

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.stores.sql import SqlDatabase, upgrade

POSTGRES = "STEPUP_TEST_POSTGRES_URL"


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    if POSTGRES not in os.environ:
        pytest.skip(f"{POSTGRES} is not set")
    server = make_url(os.environ[POSTGRES])
    name = f"stepup_test_{uuid4().hex}"
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.set(database=name).render_as_string(hide_password=False)
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    await engine.dispose()


@pytest.fixture
async def url(empty_url):
    await upgrade(empty_url)
    return empty_url


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
