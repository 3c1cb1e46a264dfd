"""Elevations: the proof that an actor gave a valid code in this session."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique

from stepup.domain.actor import SessionHash, TenantId, UserId

LIFETIME = timedelta(minutes=15)
"""How long an elevation lives from the receipt of its code. Use never lengthens it (S9)."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far the clocks of two workers may differ. An elevation from further in the future is void:
the clock that made it, or this one, cannot be trusted."""


@unique
class Method(StrEnum):
    """A way in which a person proves themselves."""

    TOTP = "totp"


@dataclass(frozen=True, slots=True)
class Elevation:
    """A code was right at `verified_at`, in one session, with one enrollment."""

    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    enrollment_id: str
    verified_at: datetime
    expires_at: datetime
    methods: tuple[Method, ...] = (Method.TOTP,)

    def is_live(self, now: datetime) -> bool:
        """Whether it counts at this instant; at `expires_at` it no longer does.

        What is stored never makes it live longer than from its verification (S9).
        """
        expires_at = min(self.expires_at, self.verified_at + LIFETIME)
        return self.verified_at - CLOCK_TOLERANCE <= now < expires_at

    def is_older_than(self, max_age: timedelta, now: datetime) -> bool:
        """Whether more than `max_age` has passed since the code was received."""
        return now - self.verified_at > max_age


@dataclass(frozen=True, slots=True)
class Revocations:
    """What ended elevations before their time, as far as a worker remembers (S10).

    Times are compared with the time of verification, and the instant itself is included: an
    elevation verified at or before a revocation of its user or session is void.
    """

    users: Mapping[tuple[TenantId, UserId], datetime] = field(default_factory=dict)
    sessions: Mapping[SessionHash, datetime] = field(default_factory=dict)
    ended_enrollments: AbstractSet[str] = frozenset()

    def void(self, elevation: Elevation) -> bool:
        """Whether the elevation was revoked, or its authenticator is gone."""
        return (
            elevation.enrollment_id in self.ended_enrollments
            or _ends(self.users.get((elevation.tenant_id, elevation.user_id)), elevation)
            or _ends(self.sessions.get(elevation.session_hash), elevation)
        )


def _ends(revoked_through: datetime | None, elevation: Elevation) -> bool:
    return revoked_through is not None and elevation.verified_at <= revoked_through
