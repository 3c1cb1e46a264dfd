"""A PostgreSQL server to measure on: as durable as it comes, and over TCP."""

import asyncio
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from stepup_tests.postgres import PostgresServer
from stepup_tests.valkey_server import free_port


class Postgres:
    """A server that takes connections, for databases of their own."""

    def __init__(self, address, pid) -> None:
        self.pid = pid
        self._address = address

    def create(self, name):
        """Make a database; returns its URL."""
        asyncio.run(self._run(f'CREATE DATABASE "{name}"'))
        return self._url(name)

    def version(self):
        """Which PostgreSQL it is."""
        return asyncio.run(self._run("SHOW server_version"))

    async def _run(self, statement):
        engine = create_async_engine(
            self._url("postgres", "postgresql+asyncpg"), isolation_level="AUTOCOMMIT"
        )
        async with engine.connect() as connection:
            result = await connection.execute(text(statement))
            value = result.scalar() if result.returns_rows else None
        await engine.dispose()
        return value

    def _url(self, name, scheme="postgresql"):
        return f"{scheme}://postgres@{self._address}/{name}"


@contextmanager
def postgres():
    """Run a server, on the core of this process."""
    port = free_port()
    settings = {"listen_addresses": "127.0.0.1", "port": str(port)}
    with PostgresServer(settings) as server:
        yield Postgres(f"127.0.0.1:{port}", server.pid)
