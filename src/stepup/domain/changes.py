"""The change feed: what every worker has to hear of within two seconds."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import TypeAlias

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import Elevation
from stepup.domain.values import value


@value
class PolicyChanged:
    """The tenant's policy has this version now."""

    tenant_id: TenantId
    version: int


@value
class UserRevoked:
    """Every elevation of the user verified at or before `through` is void."""

    tenant_id: TenantId
    user_id: UserId
    through: datetime


@value
class SessionRevoked:
    """The session's elevation is void if it was verified at or before `through`."""

    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    through: datetime


@value
class EnrollmentEnded:
    """The enrollment was removed, reset or replaced: the elevations of its codes are void.

    It names the enrollment rather than an instant, so that no difference between clocks and no
    order of commits lets an elevation of the old authenticator through.
    """

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str


Change: TypeAlias = PolicyChanged | UserRevoked | SessionRevoked | EnrollmentEnded


@value
class UserRevocations:
    """What the feed still holds of one user: the latest revocation, and ended enrollments.

    `through` is the latest of the `UserRevoked`, and of the `SessionRevoked` of the one session
    that was asked for, if any; None where there is none. `ended_enrollments` has, by enrollment id,
    when its end was announced.
    """

    through: datetime | None = None
    ended_enrollments: Mapping[str, datetime] = field(default_factory=dict)

    def void(self, elevation: Elevation) -> bool:
        """Whether an elevation of the user and session is revoked, as `Revocations.void` judges."""
        return elevation.enrollment_id in self.ended_enrollments or self.reaches(
            elevation.verified_at
        )

    def reaches(self, instant: datetime) -> bool:
        """Whether what was verified at the instant is revoked."""
        return self.through is not None and instant <= self.through
