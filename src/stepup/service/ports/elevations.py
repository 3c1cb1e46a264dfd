"""State that lives in Redis: elevations, recorded outcomes, rates of callers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.elevation import Elevation, Verification
from stepup.domain.rate import Rate


class Elevations(Protocol):
    """The live elevations, one per session."""

    async def ping(self) -> None:
        """Wait until every part of the store has answered."""
        ...

    async def check_writes(self) -> None:
        """Wait until every part of the store has accepted a write, which expires soon."""
        ...

    async def replace(self, elevation: Elevation) -> None:
        """Store an elevation in place of the session's earlier one.

        The store MUST drop it when its lifetime has passed since the call, whatever the clocks say.
        """
        ...

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> Elevation | None:
        """Return the session's elevation, in one round trip.

        None if nothing is stored, if `revoke_user` covers it, or if the stored value cannot be read
        or belongs to another tenant, user or session (S9). It may have expired: see `is_live`.
        """
        ...

    async def revoke_session(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> None:
        """Delete the session's elevation."""
        ...

    async def revoke_user(self, tenant_id: TenantId, user_id: UserId, through: datetime) -> None:
        """Void every elevation of the user that was verified at or before `through`."""
        ...


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key of a recorded outcome. Equal request ids of two users are different requests."""

    tenant_id: TenantId
    user_id: UserId
    request_id: UUID


class RecordedOutcomes(Protocol):
    """Outcomes of `VerifyOtp` by request id, kept for a minute."""

    async def claim(self, key: RequestKey, fingerprint: bytes) -> Verification | None:
        """Claim a request, atomically: of parallel equal calls exactly one gets None.

        That MUST hold even if the store has a value that is not authentic (S25).

        After None, this call makes the attempt, and then calls `record` or `release`. A
        `Verification` is the outcome of an earlier attempt.

        Raises:
            InvalidFieldError: the request id was used with another fingerprint.
            RequestUnderWayError: another call has the claim and has recorded no outcome yet.
        """
        ...

    async def record(self, key: RequestKey, fingerprint: bytes, outcome: Verification) -> None:
        """Record the outcome of a claimed request for a minute."""
        ...

    async def release(self, key: RequestKey) -> None:
        """Give a claim back, since no attempt was made."""
        ...


class CallerRates(Protocol):
    """How much each caller has called recently: one bucket per caller, tenant and rate.

    A changed rate has a new bucket.
    """

    async def spend(
        self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int
    ) -> timedelta | None:
        """Charge a bucket for `cost` calls, as `Rate.spend` defines, in one round trip.

        It MUST be atomic: of parallel calls, in any workers, no two see the same bucket. The clock
        is the store's, so that workers' clocks do not matter; it may be set. A bucket MUST be
        deleted when it no longer counts. As every call waits for the answer, it comes, or fails,
        within a quarter of a second.

        Returns:
            None if the bucket was charged; otherwise how long to wait, and nothing is charged.
        """
        ...
