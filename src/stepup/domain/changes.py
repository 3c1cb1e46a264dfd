"""The change feed: what every worker has to hear of within two seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from stepup.domain.actor import SessionHash, TenantId, UserId


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The tenant's policy has this version now."""

    tenant_id: TenantId
    version: int


@dataclass(frozen=True, slots=True)
class UserRevoked:
    """Every elevation of the user verified at or before `through` is void."""

    tenant_id: TenantId
    user_id: UserId
    through: datetime


@dataclass(frozen=True, slots=True)
class SessionRevoked:
    """The session's elevation is void if it was verified at or before `through`."""

    tenant_id: TenantId
    user_id: UserId
    session_hash: SessionHash
    through: datetime


@dataclass(frozen=True, slots=True)
class EnrollmentEnded:
    """The enrollment was removed, reset or replaced: whatever its codes elevated is void.

    It names the enrollment rather than an instant, so that no difference between clocks and no
    order of commits lets an elevation of the old authenticator through.
    """

    tenant_id: TenantId
    user_id: UserId
    enrollment_id: str


Change: TypeAlias = PolicyChanged | UserRevoked | SessionRevoked | EnrollmentEnded


@dataclass(frozen=True, slots=True)
class UserRevocations:
    """What the feed still holds of one user: the latest revocation, and ended enrollments.

    `through` is that of the latest `UserRevoked`, None where there is none. `ended_enrollments`
    has, by enrollment id, when its end was announced. Sign-outs are not part of it.
    """

    through: datetime | None = None
    ended_enrollments: Mapping[str, datetime] = field(default_factory=dict)
