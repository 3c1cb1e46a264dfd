"""The changes that every worker learns within two seconds (S10), and its memory of revocations.

A worker remembers revocations in flat tables, so that a million fit (S27).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Final, TypeAlias

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.elevation import CLOCK_TOLERANCE, LIFETIME, Elevation
from stepup.domain.instants import microseconds
from stepup.domain.values import value

REMEMBER_SECONDS: Final = (LIFETIME + 2 * CLOCK_TOLERANCE).total_seconds()
"""Every elevation that a revocation voids has expired by then."""
_SPAN_SECONDS: Final = REMEMBER_SECONDS / 2
"""A generation takes in revocations for this long, and is forgotten as a whole."""
_SHARDS: Final = 64
"""To enlarge or to drop the table of a million entries at once would stall calls."""
_DROPPED_AT_ONCE: Final = 8
_FOR_EVER: Final = 1 << 63
_USER, _SESSION, _ENROLLMENT = range(3)


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


Revocation: TypeAlias = UserRevoked | SessionRevoked | EnrollmentEnded


class Revocations:
    """What ended elevations before their time, as far as a worker remembers (S10).

    Times are compared with the time of verification, and the instant itself is included: an
    elevation verified at or before a revocation of its user or session is void. An enrollment that
    has ended voids its elevations whatever their time.

    A revocation takes about 100 bytes. It is kept as a 64-bit hash, keyed for this process, and
    an instant. If two hashes were equal, a person would be asked for a code once more. The times
    that methods take are monotonic, in seconds.
    """

    def __init__(self) -> None:
        # When each generation began, and its tables: instants in microseconds by hash.
        self._generations: deque[tuple[float, list[dict[int, int]]]] = deque()
        self._dropped: list[dict[int, int]] = []

    def add(self, revocation: Revocation, now: float) -> None:
        """Remember a revocation for `REMEMBER_SECONDS` at least; of two, the later counts."""
        match revocation:
            case UserRevoked(tenant_id, user_id, instant):
                key, through = hash((_USER, tenant_id, user_id)), microseconds(instant)
            case SessionRevoked(_, _, session_hash, instant):
                key, through = hash((_SESSION, session_hash)), microseconds(instant)
            case ended:
                key, through = hash((_ENROLLMENT, ended.enrollment_id)), _FOR_EVER
        if not self._generations or now >= self._generations[-1][0] + _SPAN_SECONDS:
            self._generations.append((now, [{} for _ in range(_SHARDS)]))
        table = self._generations[-1][1][key % _SHARDS]
        table[key] = max(through, table.get(key, through))

    def void(self, elevation: Elevation) -> bool:
        """Whether the elevation was revoked, or its authenticator is gone."""
        if not self._generations:
            return False
        keys = (
            hash((_USER, elevation.tenant_id, elevation.user_id)),
            hash((_SESSION, elevation.session_hash)),
            hash((_ENROLLMENT, elevation.enrollment_id)),
        )
        for _, tables in self._generations:
            for key in keys:
                through = tables[key % _SHARDS].get(key)
                if through is not None and microseconds(elevation.verified_at) <= through:
                    return True
        return False

    def forget(self, now: float) -> None:
        """Forget what is too old to matter. Memory is given back over several calls."""
        while self._generations and (
            now > self._generations[0][0] + _SPAN_SECONDS + REMEMBER_SECONDS
        ):
            self._dropped += self._generations.popleft()[1]
        del self._dropped[-_DROPPED_AT_ONCE:]
