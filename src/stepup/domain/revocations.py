"""The revocations that a worker remembers: flat tables, so that a million fit (S27)."""

from collections import deque
from typing import Final, TypeAlias

from stepup.domain.changes import EnrollmentEnded, SessionRevoked, UserRevoked
from stepup.domain.elevation import CLOCK_TOLERANCE, LIFETIME, Elevation
from stepup.domain.instants import microseconds

Revocation: TypeAlias = UserRevoked | SessionRevoked | EnrollmentEnded

REMEMBER_SECONDS: Final = (LIFETIME + 2 * CLOCK_TOLERANCE).total_seconds()
"""Every elevation that a revocation voids has expired by then."""
_SPAN_SECONDS: Final = REMEMBER_SECONDS / 2
"""A generation takes in revocations for this long, and is forgotten as a whole."""
_SHARDS: Final = 64
"""To enlarge or to drop the table of a million entries at once would stall calls."""
_DROPPED_AT_ONCE: Final = 8
_FOR_EVER: Final = 1 << 63
_USER, _SESSION, _ENROLLMENT = range(3)


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
