"""The challenges, which persons approve and checks use up."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.challenge import Challenge
from stepup.domain.receipts import Redemption


class Challenges(Protocol):
    """The challenges of the last day, with their items."""

    async def find(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        """Return a challenge. It MUST see what was committed before the call."""
        ...

    async def find_for_update(self, tenant_id: TenantId, challenge_id: UUID) -> Challenge | None:
        """Return a challenge, in a transaction; its row MUST be locked until the end.

        Its items are not locked: `use_item` locks the one that it uses.
        """
        ...

    async def is_of_other_tenant(self, tenant_id: TenantId, challenge_id: UUID) -> bool:
        """Whether another tenant has a challenge of this id: for the decision log."""
        ...

    async def of_user(
        self, tenant_id: TenantId, user_id: UserId, now: datetime, limit: int
    ) -> Sequence[Challenge]:
        """Return the user's challenges: those pending now first; of each kind the newest first."""
        ...

    async def created_since(
        self, tenant_id: TenantId, user_id: UserId, since: datetime
    ) -> Sequence[Challenge]:
        """Return the user's challenges that were created after an instant, oldest first."""
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
        """Replace what the answer or the end has changed; the items stay as they are.

        Its row MUST have been read by `find_for_update` in the same transaction.
        """
        ...

    async def use_item(
        self, tenant_id: TenantId, challenge_id: UUID, place: int, use: Redemption
    ) -> bool:
        """Record that an item has allowed an action; return False if it was used before.

        It MUST be one statement that compares and sets, so that of parallel uses one wins; the
        others wait until its transaction has ended (S19). It MUST return False, too, if the stored
        state is not APPROVED.
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

        In a transaction that holds the lock of the user's authenticator (S10). A challenge that has
        expired within the clocks' tolerance MUST end as well: by another clock it is still open.
        """
        ...

    async def no_longer_pending(
        self, challenge_ids: Collection[tuple[TenantId, UUID]]
    ) -> Collection[tuple[TenantId, UUID]]:
        """Return those of the challenges whose stored state is not PENDING, or that are gone."""
        ...

    async def expired(self, now: datetime, limit: int) -> Sequence[tuple[TenantId, UUID]]:
        """Return up to `limit` challenges of all tenants that have expired while pending."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` challenges whose `forget_at` has come; return how many."""
        ...
