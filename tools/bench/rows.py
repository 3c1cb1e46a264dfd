"""What a user and an audit event take of PostgreSQL: tables and indexes."""

import asyncio
import itertools
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stepup.domain.actor import CallerId
from stepup.domain.audit import Event, EventKind
from stepup.keys.file import KeyFile
from stepup.keys.ring import KeyRing
from stepup.stores.sql import SqlDatabase
from tools.bench.enrolled import enrol

_SIZES = """
    SELECT relname, pg_table_size(oid) AS rows, pg_indexes_size(oid) AS indexes
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


def measure(database, users, tenants):
    """Enrol people, let each give a code, and look at what that takes.

    Args:
        database: a PostgreSQL server of `bench.postgres`.
        users: how many people, with one audit event each.
        tenants: of how many tenants they are.
    """
    url = database.create("rows")
    asyncio.run(_fill(url, users, tenants))
    sizes = asyncio.run(_sizes(url))
    return {
        "users": users,
        "tenants": tenants,
        "bytes_per_row": {
            table: {kind: round(octets / users) for kind, octets in sizes[table].items()}
            for table in ("authenticators", "reset_codes", "audit_events")
        },
    }


async def _fill(url, users, tenants):
    everybody = await enrol(url, KeyRing.of(KeyFile.generated(datetime.now(UTC))), users, tenants)
    by_tenant = sorted(everybody, key=lambda person: person.actor.tenant_id)
    database = SqlDatabase(url)
    for _, people in itertools.groupby(by_tenant, lambda person: person.actor.tenant_id):
        async with database.transaction() as records:
            for person in people:
                await records.audit.append(_verified(person.actor))
    await database.close()


def _verified(actor):
    """An event as `VerifyOtp` writes it."""
    return Event(
        actor.tenant_id,
        EventKind.OTP_VERIFIED,
        datetime.now(UTC),
        CallerId("response-actions"),
        actor.user_id,
        actor.user_id,
        {
            "session": actor.session_hash,
            "request_id": str(uuid4()),
            "enrollment_id": str(uuid4()),
            "step": 60_000_000,
        },
    )


async def _sizes(url):
    engine = create_async_engine(
        url.replace("postgresql:", "postgresql+asyncpg:"), isolation_level="AUTOCOMMIT"
    )
    async with engine.connect() as connection:
        await connection.execute(text("VACUUM ANALYZE"))
        found = await connection.execute(text(_SIZES))
        sizes = {row.relname: {"rows": row.rows, "indexes": row.indexes} for row in found}
    await engine.dispose()
    return sizes
