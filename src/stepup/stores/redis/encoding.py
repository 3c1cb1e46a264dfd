"""How an elevation is written: a short JSON array that starts with a version.

Tenant, user and session stand in it as one digest. It is enough to notice a value that lies under
another's key (S9); with ids in full, an elevation could take twice the memory. Times are whole
microseconds: the instant of verification, and how long the elevation counts from then.
"""

from typing import Any

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import Elevation, Method
from stepup.domain.instants import MICROSECOND, instant_at, microseconds
from stepup.stores.redis.keyspace import digest

_VERSION = 1


def elevation_fields(elevation: Elevation) -> list[Any]:
    """The elevation as JSON values."""
    return [
        _VERSION,
        digest(elevation.tenant_id, elevation.user_id, elevation.session_hash),
        elevation.enrollment_id,
        microseconds(elevation.verified_at),
        (elevation.expires_at - elevation.verified_at) // MICROSECOND,
        [method.value for method in elevation.methods],
    ]


def read_elevation(
    fields: Any, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
) -> Elevation | None:
    """The elevation of this session; None when the fields are another's or not understood (S9)."""
    match fields:
        case [version, owner, str(enrollment_id), int(verified), int(lifetime), [*methods]]:
            if version != _VERSION or owner != digest(tenant_id, user_id, session_hash):
                return None
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
            methods=tuple(Method(method) for method in methods),
        )
    except (ValueError, OverflowError):  # a method of a later version; an instant beyond all years
        return None
