"""The clock of a PostgreSQL server."""

from datetime import datetime, timedelta

from sqlalchemy import text

from stepup.service.ports import Clock
from stepup.stores.clock_offsets import clock_offset
from stepup.stores.sql.connection import uninterrupted
from stepup.stores.sql.engine import parse_url, read_engine
from stepup.stores.sql.faults import unavailable
from stepup.stores.sql.limits import Limits

_NOW = text("SELECT clock_timestamp()")


async def database_clock_offset(url: str, limits: Limits, clock: Clock) -> timedelta:
    """How far the clock of a PostgreSQL server is ahead of ours; see `clock_offset`.

    Raises:
        StoreUnavailableError: the database cannot be reached.
    """
    return await uninterrupted(_measure(url, limits, clock))


async def _measure(url: str, limits: Limits, clock: Clock) -> timedelta:
    parsed = parse_url(url)
    engine = read_engine(parsed, limits)
    try:
        async with engine.connect() as connection:

            async def read() -> datetime:
                now: datetime = (await connection.execute(_NOW)).scalar_one()
                return now

            return await clock_offset(read, clock)
    except Exception as error:
        raise unavailable(parsed, error) from error
    finally:
        await engine.dispose()
