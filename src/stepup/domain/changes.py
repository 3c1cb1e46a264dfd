"""The change feed: what every worker has to hear of within two seconds."""

from dataclasses import dataclass
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
