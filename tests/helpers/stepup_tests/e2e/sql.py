"""Statements on a database that a server process uses, beside the server."""

import asyncio

from sqlalchemy import NullPool, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine


async def executed(url, statement, **parameters):
    """Execute a statement, and commit; returns its rows, if it has any."""
    engine = create_async_engine(make_url(url), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    async with engine.connect() as connection:
        result = await connection.execute(text(statement), parameters)
        return list(result) if result.returns_rows else []


def execute(url, statement, **parameters):
    """The same, where no event loop runs."""
    return asyncio.run(executed(url, statement, **parameters))
