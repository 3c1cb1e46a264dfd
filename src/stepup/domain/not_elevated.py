"""Why a session is not elevated: an explanation for the person, and not a rule."""

from datetime import datetime
from enum import StrEnum, unique

from stepup.domain.actor import SessionHash
from stepup.domain.authenticator import Authenticator
from stepup.domain.changes import Revocations
from stepup.domain.elevation import LIFETIME, Elevation


@unique
class NotElevatedDetail(StrEnum):
    """Why a session has no live elevation, as far as is on record."""

    NEVER = "never"
    EXPIRED = "expired"
    REVOKED = "revoked"
    OTHER_SESSION = "other_session"


def explain_not_elevated(
    authenticator: Authenticator,
    session_hash: SessionHash,
    revocations: Revocations,
    now: datetime,
) -> NotElevatedDetail | None:
    """Why the session is not elevated; None if that is not on record.

    Codes that a server of an earlier release accepted are not, nor is an elevation that Redis lost.
    """
    used = authenticator.history.used
    own = next((code for code in used if code.session_hash == session_hash), None)
    if own is None:
        if not used:
            return None
        is_recent = now - used[-1].used_at < LIFETIME
        return NotElevatedDetail.OTHER_SESSION if is_recent else NotElevatedDetail.NEVER
    elevation = Elevation(
        tenant_id=authenticator.tenant_id,
        user_id=authenticator.user_id,
        session_hash=session_hash,
        enrollment_id=authenticator.enrollment_id,
        verified_at=own.used_at,
        expires_at=own.used_at + LIFETIME,
    )
    if now >= elevation.expires_at:
        return NotElevatedDetail.EXPIRED
    return NotElevatedDetail.REVOKED if revocations.void(elevation) else None
