"""People whom a server process finds enrolled: their codes of now are unused."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from stepup_tests.e2e.processes import ServerProcess
from stepup_tests.enrolled import RESET_CODE, store_enrolled
from stepup_tests.keys import ring_in

from stepup.domain.actor import TenantId
from stepup.domain.totp import TotpSecret
from stepup.stores.sql import Limits, SqlDatabase


def enrolled(
    server: ServerProcess, tenant: str, secrets: Mapping[str, TotpSecret], url: str | None = None
) -> None:
    """Store people with their secrets, beside the server; the canary looks for the secrets.

    `url` is that of the server's database, if it is not the one of its site.
    """
    for secret in secrets.values():
        server.secrets.note({"secret": secret.base32})
    server.secrets.note({"reset_code": RESET_CODE.text})
    asyncio.run(_store(server, url or server.site.database_url, tenant, secrets))


async def _store(
    server: ServerProcess, url: str, tenant: str, secrets: Mapping[str, TotpSecret]
) -> None:
    ring = ring_in(server.data_dir / "keys.json")
    database = SqlDatabase(url, Limits.lasting(timedelta(seconds=60)))
    try:
        await store_enrolled(database, ring, TenantId(tenant), secrets, datetime.now(UTC))
    finally:
        await database.close()
