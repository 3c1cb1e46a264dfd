"""How an elevation is written: a short JSON array.

It does not repeat tenant, user and session: the MAC covers them, so that a value counts under its
own key only (S9, S25). Times are whole microseconds: the instant of verification, and how long the
elevation counts from then.
"""

from typing import Any, Final

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import AuthenticationMethod, Elevation
from stepup.domain.instants import MICROSECOND, instant_at, microseconds

_METHODS: Final = {method.value: method for method in AuthenticationMethod}


def elevation_fields(elevation: Elevation) -> list[Any]:
    """The elevation as JSON values."""
    return [
        elevation.enrollment_id,
        microseconds(elevation.verified_at),
        (elevation.expires_at - elevation.verified_at) // MICROSECOND,
        [method.value for method in elevation.methods],
    ]


def read_elevation(
    fields: Any, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
) -> Elevation | None:
    """The elevation of this session from authentic fields; None if they are not understood.

    A later version may have written them.
    """
    match fields:
        case [str(enrollment_id), int(verified), int(lifetime), [*methods]]:
            pass
        case _:
            return None
    try:
        verified_at = instant_at(verified)
        return Elevation(
            tenant_id=tenant_id,
            user_id=user_id,
            session_hash=session_hash,
            enrollment_id=enrollment_id,
            verified_at=verified_at,
            expires_at=verified_at + lifetime * MICROSECOND,
            methods=tuple(map(_METHODS.__getitem__, methods)),
        )
    except (KeyError, TypeError, OverflowError):
        # A method of a later version, or no text; an instant beyond all years.
        return None
