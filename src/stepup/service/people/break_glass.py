"""`stepup break-glass`: the last way back for a business whose administrators have lost all."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import Gauge

from stepup.domain.actor import CallerId, UserId
from stepup.domain.audit import EventKind
from stepup.domain.person import EndedBy, PastAuthenticator
from stepup.domain.text import StatedReason
from stepup.service.calls.context import HostContext
from stepup.service.enrollment.end import end_authenticator
from stepup.service.ports import Database, Keys

BREAK_GLASS: Final = CallerId("break-glass")
"""The caller of the events."""
_last_used = Gauge(
    "stepup_break_glass_last_used_timestamp_seconds",
    "When `stepup break-glass` was last used in any tenant, as the database has it; 0 if never.",
    # A worker that has just started has read nothing, and shows 0.
    multiprocess_mode="livemax",
)


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """Removes a user's authenticator without a call, with the database and the key ring (S16)."""

    database: Database
    keys: Keys

    async def reset_enrollment(
        self, context: HostContext, user_id: UserId, reason: StatedReason
    ) -> bool:
        """Do what `AdminResetEnrollment` does. The change feed ends the elevations (S10).

        Returns:
            Whether the user had an authenticator. If not, nothing was changed.

        Raises:
            SealBrokenError: the key ring cannot open the user's secret: nothing was changed.
            StoreUnavailableError: nothing was changed.
        """
        tenant_id = context.tenant_id
        async with self.database.transaction(tenant_id) as records:
            active = await records.authenticators.find_for_update(tenant_id, user_id)
            if active is None:
                return False
            # Proves that the ring is the one of the servers: the database alone is not enough.
            self.keys.open(active.sealed_secret, tenant_id, user_id, active.enrollment_id)
            past = PastAuthenticator(context.now, EndedBy.BREAK_GLASS)
            await records.past.remember(tenant_id, user_id, past)
            kind = EventKind.AUTHENTICATOR_RESET_BY_BREAK_GLASS
            await end_authenticator(records, context, active, kind, reason=reason)
        return True


def show_last_break_glass(used_at: datetime | None) -> None:
    """Show when `stepup break-glass` was last used; None if never."""
    _last_used.set(used_at.timestamp() if used_at is not None else 0)
