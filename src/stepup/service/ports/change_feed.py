"""The change feed: how workers learn of each other's changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.changes import Change, UserRevocations


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A place in the change feed, between changes that were visible and those that were not.

    Args:
        server: names the server, its history and the database. It MUST differ after a fail-over,
            after a restore, and wherever committed transactions may be missing (S28).
        next: everything with this transaction number or a higher one comes after the position.
        in_flight: lower numbers of transactions that had not ended, and come after it, too.
        ids_are_folded: whether stored ids of tenants and users were folded to lower case.
        newest_event: tenant, number and hash of the newest audit event; None without one, and
            where `server` differs after every restore.
    """

    server: str
    next: int
    in_flight: tuple[int, ...] = ()
    ids_are_folded: bool = False
    newest_event: tuple[str, int, bytes] | None = None

    def continues(self, earlier: "FeedPosition") -> bool:
        """Whether everything between the two positions can be read from this server."""
        return self.server == earlier.server and self.next >= earlier.next


class Announced(NamedTuple):
    """A change, when it was announced by the clock of its server, and its place in its order."""

    announced_at: datetime
    transaction: int
    number: int
    change: Change


class ChangeFeed(Protocol):
    """What other workers have to hear of."""

    async def announce(self, change: Change, now: datetime) -> None:
        """Add a change, in the transaction that makes it."""
        ...

    async def position(self) -> FeedPosition:
        """The place after everything that is visible now.

        Raises:
            StoreUnavailableError: also where the server is a standby.
        """
        ...

    async def contains(self, position: FeedPosition) -> bool:
        """Whether everything that was committed before a position of this server is still there.

        It is not after a restore in place: `newest_event` is missing then, or another one (S28).
        """
        ...

    async def revocations_of(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> UserRevocations:
        """What of a user was revoked, as far back as the feed goes (S10).

        The sign-outs of one session are part of it if the session is given.

        It MUST see what was committed before the call, and cost no more when many sessions were
        signed out, of this user or of others.
        """
        ...

    async def recent(
        self, since: datetime, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        """The first changes that were announced at or after an instant, by that and by number.

        Args:
            since: the instant.
            after: the last change of the portion before, None for the first portion.
            limit: how many changes at most.
        """
        ...

    async def newest(self) -> datetime | None:
        """The latest instant at which a change was announced."""
        ...

    async def late(self, position: FeedPosition) -> Sequence[Change]:
        """The visible changes of the transactions that were in flight at a position."""
        ...

    async def between(
        self, start: FeedPosition, end: FeedPosition, after: Announced | None, limit: int
    ) -> Sequence[Announced]:
        """The first changes numbered from `start.next` to `end.next`, by transaction and number.

        With `late` of `start`, these MUST be all changes that are visible at `end` and were not at
        `start`, in whatever order transactions commit. Some that come after `end` may be among
        them.

        Args:
            start: the position up to which everything is known.
            end: a later position on the same server.
            after: the last change of the portion before, None for the first portion.
            limit: how many changes at most.
        """
        ...

    async def purge(self, before: datetime, limit: int) -> int:
        """Remove up to `limit` changes announced before an instant; returns how many."""
        ...
