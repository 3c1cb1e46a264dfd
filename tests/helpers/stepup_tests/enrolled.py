"""People who are enrolled, stored past the service: no wizard, and no code of theirs is used."""

from collections.abc import Mapping
from datetime import datetime
from uuid import uuid4

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import Authenticator
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.keys.ring import KeyRing
from stepup.stores.sql import SqlDatabase

RESET_CODE = ResetCode(bytes(range(200, 216)))


async def store_enrolled(
    database: SqlDatabase,
    ring: KeyRing,
    tenant: TenantId,
    secrets: Mapping[str, TotpSecret],
    now: datetime,
) -> None:
    """Give each user an authenticator with their secret, and the reset code."""
    async with database.transaction() as records:
        for user, secret in secrets.items():
            place = (tenant, UserId(user), str(uuid4()))
            await records.authenticators.add(
                Authenticator(*place, ring.seal(secret, *place), now, last_step=1)
            )
            await records.reset_codes.add(ring.record_reset_code(RESET_CODE, *place))
