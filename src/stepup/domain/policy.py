"""A tenant's MFA policy, and what weakens one."""

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

from stepup.domain.actor import TenantId
from stepup.domain.elevation import LIFETIME
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import OperationId
from stepup.domain.totp import Label
from stepup.domain.values import value

MAX_SELECTED = 1000
SHORTEST_MAX_AGE = timedelta(seconds=30)
"""For a new one. A code is accepted once in its 30 seconds: people who act twice could not meet a
shorter one (S22). A shorter one that is stored from before stays until it is changed."""

EVERY_TIME = timedelta()
"""The `max_age` of an operation that no elevation allows: a person approves each action by name.
This duration is shorter than all others, so every change to another duration weakens the policy."""

LONGEST_GRACE = timedelta(days=30)
"""The longest time to enrol, from the latest enabling of a policy to its `enroll_by`."""

MAX_AGE_PROBLEM = "must be whole seconds, from 30 seconds to 15 minutes"


def checked_max_age(value: timedelta) -> timedelta:
    """How old an elevation may be for one operation: whole seconds, 1 second to 15 minutes.

    `Policy.too_short` says which of these a new value must not be.

    Raises:
        InvalidValueError: it is another duration.
    """
    if value.microseconds or not timedelta(seconds=1) <= value <= LIFETIME:
        raise InvalidValueError("must be whole seconds, from 1 second to 15 minutes")
    return value


@value
class Policy:
    """Whether MFA is on for a business, and which operations need a code.

    `max_ages` maps every selected operation to how old an elevation may be for it; selecting an
    operation without saying so maps it to the whole 15 minutes, and `EVERY_TIME` to a challenge.
    `issuer` is what authenticator apps show for the business, None where the deployment's issuer
    serves. `enroll_by` is until when people who never had an authenticator have time to enrol, None
    without such a time. `enabled_at` is when the policy was last enabled, None if it never was.
    `etag` is what callers name it by: opaque, of this tenant, this change and these values
    only.
    """

    tenant_id: TenantId
    enabled: bool = False
    max_ages: Mapping[OperationId, timedelta] = field(default_factory=lambda: MappingProxyType({}))
    version: int = 0
    updated_at: datetime | None = None
    issuer: Label | None = None
    enroll_by: datetime | None = None
    enabled_at: datetime | None = None
    etag: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        changed = self.updated_at.astimezone(UTC).isoformat() if self.updated_at else ""
        selected = ",".join(
            f"{operation_id}={max_age.total_seconds():.0f}"
            for operation_id, max_age in sorted(self.max_ages.items())
        )
        # What it says as well: after a fail-over a version may be given to another policy (S28).
        material = [self.tenant_id, str(self.version), changed, str(self.enabled), selected]
        # Without an issuer the etag is the one that servers of the version before compute.
        if self.issuer is not None:
            material.append(self.issuer)
        if self.enroll_by is not None:
            material.append(f"enroll_by={self.enroll_by.astimezone(UTC).isoformat()}")
        digest = sha256("\0".join(material).encode()).hexdigest()
        object.__setattr__(self, "etag", digest[:16])

    def in_grace(self, now: datetime) -> bool:
        """Whether people who never had an authenticator still have time to enrol."""
        return self.enabled and self.enroll_by is not None and now < self.enroll_by

    def changed(self, after: "Policy", now: datetime) -> "Policy":
        """The next version of this policy, with the values of `after`."""
        enabled_at = self._enabled_at(now) if after.enabled else self.enabled_at
        return replace(after, version=self.version + 1, updated_at=now, enabled_at=enabled_at)

    def _enabled_at(self, now: datetime) -> datetime:
        """When the policy was last enabled, if it is enabled now or in this moment."""
        if not self.enabled:
            return now
        # A server of the previous release stores no such time.
        return self.enabled_at or self.updated_at or now

    def problem_of_enroll_by(self, after: "Policy", now: datetime) -> str | None:
        """Why `enroll_by` cannot be that of `after`; None if it can, or does not change."""
        if after.enroll_by is None or after.enroll_by == self.enroll_by:
            return None
        if after.enroll_by <= now:
            return "must be in the future; leave it out to end the time to enrol"
        latest = self._enabled_at(now) + LONGEST_GRACE
        if after.enroll_by > latest:
            return (
                "must be at most 30 days after the policy was enabled:"
                f" {latest.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            )
        return None

    def too_short(self, after: "Policy") -> list[OperationId]:
        """The operations whose `max_age` would be new `after`, and shorter than the shortest."""
        return [
            operation_id
            for operation_id, max_age in after.max_ages.items()
            if EVERY_TIME < max_age < SHORTEST_MAX_AGE
            and self.max_ages.get(operation_id) != max_age
        ]

    def weakenings(self, after: "Policy") -> list[str]:
        """What of this policy would be weaker `after`, in words; empty when nothing is."""
        found = ["MFA is disabled"] if self.enabled and not after.enabled else []
        for operation_id, max_age in self.max_ages.items():
            if operation_id not in after.max_ages:
                found.append(f"{operation_id} is deselected")
            elif max_age == EVERY_TIME != after.max_ages[operation_id]:
                found.append(f"{operation_id} no longer needs a code every time")
            elif after.max_ages[operation_id] > max_age:
                found.append(f"the max_age of {operation_id} is lengthened")
        if self.enabled and after.enabled and after.enroll_by is not None:
            if self.enroll_by is None:
                found.append("enroll_by is set")
            elif after.enroll_by > self.enroll_by:
                found.append("enroll_by is moved to a later time")
        return found


@value
class PolicyChange:
    """The wanted values, and the version that they are based on; None leaves a field unchanged.

    An `issuer` or an `enroll_by` of "" removes the one of the policy.
    """

    etag: str
    enabled: bool | None = None
    max_ages: Mapping[OperationId, timedelta] | None = None
    issuer: Label | Literal[""] | None = None
    enroll_by: datetime | Literal[""] | None = None

    def applied_to(self, policy: Policy) -> Policy:
        """Return a policy with the wanted values."""
        return replace(
            policy,
            enabled=policy.enabled if self.enabled is None else self.enabled,
            max_ages=policy.max_ages if self.max_ages is None else self.max_ages,
            issuer=policy.issuer if self.issuer is None else self.issuer or None,
            enroll_by=policy.enroll_by if self.enroll_by is None else self.enroll_by or None,
        )
