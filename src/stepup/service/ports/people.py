"""The people of a tenant: those with an authenticator, those asked, and those that left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from stepup.domain.actor import TenantId, UserId
from stepup.domain.person import PastAuthenticator, PeopleCounts, Person, PersonState


@dataclass(frozen=True, slots=True)
class PeopleQuery:
    """Selects people of a tenant.

    Args:
        tenant_id: the tenant.
        now: the time at which states are judged.
        in_grace: whether the tenant's policy gives time to enrol now.
        state: the state in which people must be; None for all.
        after: the last user of the page before; None for the first page.
    """

    tenant_id: TenantId
    now: datetime
    in_grace: bool
    state: PersonState | None = None
    after: UserId | None = None


@dataclass(frozen=True, slots=True)
class KnownTenant:
    """A tenant, and whether its policy is enabled."""

    tenant_id: TenantId
    policy_enabled: bool


class People(Protocol):
    """Reads what other repositories have written about people. Nothing is locked.

    The order of users and of tenants is stable, and the database's own.
    """

    async def find(self, tenant_id: TenantId, user_id: UserId, now: datetime) -> Person | None:
        """Return one person; None if no more than a past authenticator is stored about this id."""
        ...

    async def list(self, query: PeopleQuery, limit: int) -> Sequence[Person]:
        """Return the first people that match, in the order of their ids.

        A page MUST cost no more when the tenant has more people before or after it.
        """
        ...

    async def count(self, query: PeopleQuery) -> PeopleCounts:
        """Count the people in each state, or only those in `query.state`, wherever they are."""
        ...

    async def ever_enrolled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """Whether the user has or ever had an authenticator in this tenant.

        It MUST be one statement: a user who is forgotten meanwhile MUST NOT seem to be new.
        """
        ...

    async def tenants(self, after: TenantId | None, limit: int) -> Sequence[KnownTenant]:
        """Return the next tenants with audit events, in the order of their ids."""
        ...


class AskedPeople(Protocol):
    """The people who were asked for a code and have no authenticator: one row each."""

    async def note(self, tenant_id: TenantId, asked: Mapping[UserId, datetime], most: int) -> int:
        """Record when people were asked; return how many found no room.

        A row keeps its first instant, and takes a later last one. Users who have an authenticator
        are left out, and so are users who were forgotten since they were asked. A tenant has at
        most `most` rows, which MUST hold also if several workers note at once. The first people of
        `asked` find room first.
        """
        ...

    async def remove(self, tenant_id: TenantId, user_id: UserId) -> None:
        """Delete the user's row, if there is one: on enrollment, import and `ForgetUser`."""
        ...

    async def purge(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` rows of people last asked before an instant; return how many."""
        ...


class PastAuthenticators(Protocol):
    """Ends of authenticators by others than their user: one row per user, the latest end."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> PastAuthenticator | None:
        """Return the latest end."""
        ...

    async def remember(self, tenant_id: TenantId, user_id: UserId, past: PastAuthenticator) -> None:
        """Store an end in place of an earlier one.

        An end that forbids imports MUST NOT be replaced by one that does not, within the 30 days.
        The transaction MUST hold the lock of the user's authenticator, or of its absence.
        """
        ...

    async def last_break_glass(self) -> datetime | None:
        """Return when `stepup break-glass` was last used in any tenant; None if never."""
        ...

    async def purge(self, now: datetime, before: datetime, limit: int) -> int:
        """Delete up to `limit` ends before an instant; return how many.

        Ends in tenants whose policy has an `enroll_by` after `now` MUST stay: without them, a
        forgotten user would get time to enrol.
        """
        ...


class EventClients(Protocol):
    """The devices of persons beside the audit events; `AuditTrail.append` stores them."""

    async def forget(self, tenant_id: TenantId, user_id: UserId) -> int:
        """Delete the devices of a user's events; return how many.

        The transaction MUST hold the lock of the tenant's audit chain, as `AuditTrail.prune` does.
        """
        ...

    async def purge(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` devices of events before an instant; return how many."""
        ...
