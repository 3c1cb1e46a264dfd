"""Whether a session is elevated: Redis has the elevations, memory the recent revocations."""

from dataclasses import dataclass

from stepup.domain.elevation import Elevation
from stepup.domain.errors import ElevationRequiredError, StoreUnavailableError
from stepup.service.calls.context import Context
from stepup.service.enrollment.wizard import find_active
from stepup.service.policy.snapshots import Snapshots
from stepup.service.ports import Database, Elevations, Records


@dataclass(frozen=True, slots=True)
class Elevated:
    """Looks up the elevation of an actor's session."""

    elevations: Elevations
    snapshots: Snapshots
    database: Database

    async def find(self, context: Context) -> Elevation | None:
        """The session's elevation, unless it was revoked (S10); it may have expired.

        An elevation whose enrollment was lost in a fail-over of the database is none (S28).

        Raises:
            StoreUnavailableError: Redis cannot be asked, or the revocations are too old to trust.
        """
        actor = context.actor
        elevation = await self.elevations.find(actor.tenant_id, actor.user_id, actor.session_hash)
        if elevation is None or not await self.snapshots.knows_enrollment_of(elevation):
            return None
        # Read after the answers of the stores: a revocation that came in meanwhile counts.
        revocations = self.snapshots.revocations()
        return None if revocations.void(elevation) else elevation

    async def find_live(self, context: Context) -> Elevation | None:
        """The session's elevation, if it is live.

        Raises:
            StoreUnavailableError: it cannot be known.
        """
        elevation = await self.find(context)
        return elevation if elevation is not None and elevation.is_live(context.now) else None

    async def find_live_if_known(self, context: Context) -> Elevation | None:
        """The session's elevation, if it is live and the stores can tell: for a screen only."""
        try:
            return await self.find_live(context)
        except StoreUnavailableError:
            return None

    async def require(self, context: Context, purpose: str) -> Elevation:
        """The session's live elevation.

        Raises:
            ElevationRequiredError: there is none; the message says what it was needed for, and
                what the person can do: give a code, or enrol where there is no authenticator.
            StoreUnavailableError: it cannot be known.
        """
        elevation = await self.find_live(context)
        if elevation is not None:
            return elevation
        is_enrolled = await find_active(self.database, context) is not None
        raise _refusal(f"{purpose} needs an elevated session", is_enrolled=is_enrolled)


async def is_revoked(records: Records, elevation: Elevation) -> bool:
    """Whether an elevation was revoked durably (S10), also since it was looked up.

    With the lock of the user's authenticator, or of the tenant's audit chain, which every
    revocation takes, the answer holds until the transaction ends.
    """
    revocations = await records.changes.revocations_of(
        elevation.tenant_id, elevation.user_id, elevation.session_hash
    )
    return revocations.void(elevation)


async def demand_unrevoked(records: Records, elevation: Elevation) -> None:
    """Refuse what an elevation permitted that was revoked meanwhile; call it as `is_revoked`.

    Raises:
        ElevationRequiredError: it was revoked.
    """
    if await is_revoked(records, elevation):
        active = await records.authenticators.find(elevation.tenant_id, elevation.user_id)
        raise _refusal(
            "the elevation of the session was revoked during the call",
            is_enrolled=active is not None,
        )


def _refusal(problem: str, *, is_enrolled: bool) -> ElevationRequiredError:
    next_step = (
        "give a code first (VerifyOtp)"
        if is_enrolled
        else "enrol an authenticator first (BeginEnrollment), which elevates the session"
    )
    return ElevationRequiredError(f"{problem}: {next_step}", is_enrolled=is_enrolled)
