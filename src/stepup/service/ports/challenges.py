"""The challenges, which people approve and whose items checks use up."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.challenge import Challenge
from stepup.domain.receipts import Redemption


class Creation(NamedTuple):
    """The creation of a challenge: its `request_id` is None if the caller gave none."""

    challenge_id: UUID
    created_at: datetime
    request_id: UUID | None


class Challenges(Protocol):
    """The challenges and their items, until a day after the end of each challenge."""

    async def find(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        """Return a challenge. Everything committed before the call MUST be visible."""
        ...

    async def find_for_update(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        """Return a challenge; its row MUST stay locked until the transaction ends.

        Its items are not locked: `use_item` locks the one that it uses.
        """
        ...

    async def lock(self, tenant_id: TenantId, challenge_id: UUID) -> None:
        """Lock a challenge until the transaction ends, as `find_for_update`, without a read."""
        ...

    async def is_of_other_tenant(self, tenant_id: TenantId, challenge_id: UUID) -> bool:
        """Whether another tenant has a challenge of this id: for the decision log."""
        ...

    async def of_user(
        self, tenant_id: TenantId, user_id: UserId, now: datetime, limit: int
    ) -> Sequence[Challenge]:
        """Return the user's challenges: pending ones, then the others; of each the newest first."""
        ...

    async def created_since(
        self, tenant_id: TenantId, user_id: UserId, since: datetime
    ) -> Sequence[Creation]:
        """Return the creations of the user's challenges after an instant, oldest first."""
        ...

    async def count_pending(
        self,
        tenant_id: TenantId,
        now: datetime,
        *,
        user_id: UserId | None = None,
        caller: CallerId | None = None,
    ) -> int:
        """Return how many challenges of a user, or of a caller, are pending now."""
        ...

    async def count_all_pending(self, now: datetime) -> int:
        """Return how many challenges of all tenants are pending now."""
        ...

    async def add(self, challenge: Challenge) -> None:
        """Store a new challenge."""
        ...

    async def save(self, challenge: Challenge) -> None:
        """Store the state and the approval of a challenge. Its items do not change.

        The caller MUST have read the row by `find_for_update` in the same transaction.
        """
        ...

    async def use_item(
        self, tenant_id: TenantId, challenge_id: UUID, place: int, use: Redemption
    ) -> bool:
        """Record that an item has allowed an action; return False if it was used before.

        One statement MUST compare and set, so that one of several parallel uses wins, and the
        others wait until its transaction has ended (S19). The result MUST also be False if the
        stored state is not APPROVED.
        """
        ...

    async def revoke(
        self,
        tenant_id: TenantId,
        user_id: UserId,
        now: datetime,
        session_hash: SessionHash | None = None,
    ) -> Sequence[UUID]:
        """End the user's open challenges, or those created for one session; return their ids.

        The transaction MUST hold the lock of the user's authenticator (S10). A challenge that has
        expired within the tolerance of clocks MUST end as well: on a server whose clock is behind,
        the challenge is still open.
        """
        ...

    async def no_longer_pending(
        self, challenge_ids: Collection[tuple[TenantId, UUID]]
    ) -> Collection[tuple[TenantId, UUID]]:
        """Return the challenges whose stored state is not PENDING, and those that do not exist."""
        ...

    async def expired(self, now: datetime, limit: int) -> Sequence[tuple[TenantId, UUID]]:
        """Return up to `limit` challenges of all tenants that expired without an answer."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` challenges whose `forget_at` is over; return their number."""
        ...
