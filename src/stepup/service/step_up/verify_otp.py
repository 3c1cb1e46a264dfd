"""`VerifyOtp`: evaluate the code that the person typed; a right code elevates the session."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar
from uuid import UUID

from stepup.domain.audit import Event, EventKind
from stepup.domain.elevation import LIFETIME, Elevation, Verification
from stepup.domain.totp import OtpCode
from stepup.service.calls.context import Context
from stepup.service.ports import Records
from stepup.service.step_up.codes import OneTimeCodes
from stepup.service.step_up.elevated import Elevated


@dataclass(frozen=True, slots=True)
class VerifyOtp:
    """Elevates sessions by one-time codes."""

    codes: OneTimeCodes
    elevated: Elevated

    async def __call__(
        self, context: Context, code: OtpCode, request_id: UUID | None = None
    ) -> Verification:
        """Make one attempt, or answer the recorded outcome of the same request.

        See `OneTimeCodes.attempt`.
        """
        return await self.codes.attempt(
            context, code, _ElevatedSession(context, self.elevated), request_id
        )


@dataclass(slots=True)
class _ElevatedSession:
    """Implements `CodeEffect`: elevates the session after the commit."""

    context: Context
    elevated: Elevated
    purpose: ClassVar[Mapping[str, str]] = {}
    elevation: Elevation | None = field(default=None, init=False)

    async def prepare(self, records: Records) -> None:
        """Lock nothing: an elevation changes no row."""

    async def write(self, _records: Records, enrollment_id: str, step: int) -> Event:
        self.elevation = elevate(self.context, enrollment_id)
        return self.context.event(EventKind.OTP_VERIFIED, enrollment_id=enrollment_id, step=step)

    async def finish(self, committed: Verification) -> Verification:
        if self.elevation is None:
            return committed
        await self.elevated.elevations.replace(self.elevation)
        return replace(committed, elevation=self.elevation)

    async def still_holds(self, recorded: Verification) -> bool:
        # A revocation may have ended the elevation of the outcome (S10), and Redis may return an
        # outcome that it should have deleted (S25). Then the server evaluates the code again, and
        # rejects it, because a right code is used up (S2).
        elevation = recorded.elevation
        if elevation is None:
            return True
        context = self.context
        if not elevation.is_live(context.now) or await self.elevated.find_live(context) is None:
            return False
        # The live elevation may come from a later code, after a revocation.
        return not self.elevated.snapshots.revocations().void(elevation)


def elevate(context: Context, enrollment_id: str) -> Elevation:
    """The elevation of the session by a right code that the server received now."""
    return Elevation(
        tenant_id=context.actor.tenant_id,
        user_id=context.actor.user_id,
        session_hash=context.actor.session_hash,
        enrollment_id=enrollment_id,
        verified_at=context.now,
        expires_at=context.now + LIFETIME,
    )
