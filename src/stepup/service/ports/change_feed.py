"""The change feed, by which workers learn of each other's changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import Change, UserRevocations


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A position in the change feed, between changes that were visible and those that were not.

    Args:
        server: the server, its history and the database. It MUST differ after a fail-over, after a
            restore, and whenever committed transactions may be missing (S28).
        next: changes of this transaction number or a higher one come after the position.
        in_flight: lower transaction numbers that had not ended; their changes come after it, too.
        ids_are_folded: whether stored ids of tenants and users were folded to lower case.
        newest_event: tenant, number and hash of the newest audit event; None if there is none, or
            if `server` differs after every restore.
    """

    server: str
    next: int
    in_flight: tuple[int, ...] = ()
    ids_are_folded: bool = False
    newest_event: tuple[str, int, bytes] | None = None

    def continues(self, earlier: "FeedPosition") -> bool:
        """Whether this server has every change between the two positions."""
        return self.server == earlier.server and self.next >= earlier.next


class Announced(NamedTuple):
    """A change, when its server announced it (by its clock), and its place in the feed."""

    announced_at: datetime
    transaction: int
    number: int
    change: Change


class ChangeFeed(Protocol):
    """The changes that all workers must apply."""

    async def announce(self, change: Change, now: datetime) -> None:
        """Add a change, in the transaction that makes it."""
        ...

    async def position(self) -> FeedPosition:
        """Return the position after all changes that are visible now.

        Raises:
            StoreUnavailableError: also if the server is a standby.
        """
        ...

    async def contains(self, position: FeedPosition) -> bool:
        """Whether all commits before a position of this server are still there.

        They are not after a restore in place: `newest_event` is then missing or different (S28).
        """
        ...

    async def revocations_of(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> UserRevocations:
        """Return a user's revocations, as far back as the feed goes (S10).

        The sign-outs of one session are included if the session is given.

        It MUST see what was committed before the call, and cost no more when many sessions were
        signed out, of this user or of others.
        """
        ...

    async def recent(
        self, since: datetime, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        """Return the first changes since an instant, in the order of their instants and numbers.

        Args:
            since: the earliest instant.
            after: the last change of the portion before, None for the first portion.
            limit: how many changes at most.
        """
        ...

    async def newest(self) -> datetime | None:
        """Return the latest instant at which a change was announced; None without changes."""
        ...

    async def late_commits(self, position: FeedPosition) -> Sequence[Change]:
        """Return the visible changes of the transactions that were in flight at a position."""
        ...

    async def between(
        self, start: FeedPosition, end: FeedPosition, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        """Return the first changes from `start.next` to `end.next`, by transaction and number.

        With `late_commits` of `start`, these MUST be all changes that are visible at `end` and were
        not at `start`, in whatever order transactions commit. Some changes after `end` may be among
        them.

        Args:
            start: the position up to which all changes are known.
            end: a later position on the same server.
            after: the last change of the portion before, None for the first portion.
            limit: how many changes at most.
        """
        ...

    async def purge(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` changes announced before an instant; return how many."""
        ...
