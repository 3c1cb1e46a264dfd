"""State that lives in Redis: elevations, recorded outcomes, rates of callers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.elevation import Elevation
from stepup.domain.rate import Rate
from stepup.domain.verification import Verification


class Elevations(Protocol):
    """The live elevations, one per session."""

    async def ping(self) -> None:
        """Return when every part of the store that holds elevations answers."""
        ...

    async def check_writes(self) -> None:
        """Return when every part of the store has taken a write, which is gone soon."""
        ...

    async def replace(self, elevation: Elevation) -> None:
        """Store an elevation in place of the session's earlier one.

        The store MUST drop it when its lifetime has passed since the call, whatever the clocks say.
        """
        ...

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> Elevation | None:
        """The session's elevation, in one round trip.

        None when there is none, when `revoke_user` covers it, or when what is stored cannot be read
        or belongs to another tenant, user or session (S9). The domain says whether it is live.
        """
        ...

    async def revoke_session(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> None:
        """Remove the session's elevation."""
        ...

    async def revoke_user(self, tenant_id: TenantId, user_id: UserId, through: datetime) -> None:
        """Void every elevation of the user that was verified at or before `through`."""
        ...


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What a recorded outcome is found by. Two users' equal request ids are different requests."""

    tenant_id: TenantId
    user_id: UserId
    request_id: UUID


class RecordedOutcomes(Protocol):
    """Outcomes of `VerifyOtp` by request id, kept for a minute."""

    async def claim(self, key: RequestKey, fingerprint: bytes) -> Verification | None:
        """Claim a request, atomically: of parallel equal ones a single call gets None.

        That MUST hold also where the store has a value that is not authentic (S25).

        None means that this call makes the attempt, and then calls `record` or `release`. A
        `Verification` is the outcome of the call that did.

        Raises:
            InvalidFieldError: the request id was used with another fingerprint.
            RequestUnderWayError: another call has the claim and has recorded no outcome yet.
        """
        ...

    async def record(self, key: RequestKey, fingerprint: bytes, outcome: Verification) -> None:
        """Record the outcome of a claimed request for a minute."""
        ...

    async def release(self, key: RequestKey) -> None:
        """Give a claim back: no attempt was made."""
        ...


class CallerRates(Protocol):
    """How much each caller has called lately: one bucket per caller, tenant and rate.

    A rate that is changed begins a bucket of its own.
    """

    async def spend(
        self, caller_id: CallerId, tenant_id: TenantId, rate: Rate, cost: int
    ) -> timedelta | None:
        """Make a call that counts `cost` calls, as `Rate.spend` says, in one round trip.

        It MUST be atomic: of parallel calls, of whatever workers, no two see the same bucket. Time
        is the store's, so that workers' clocks do not matter; it may be set. What is stored MUST be
        dropped when it no longer counts. Whether it answers is known within a quarter of a second:
        every call waits for that.

        Returns:
            None when the call was made; otherwise how long to wait, and nothing is spent.
        """
        ...
