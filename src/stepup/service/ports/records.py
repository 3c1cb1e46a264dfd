"""Records in SQL, which must survive everything."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator, ResetCodeRecord
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.policy import Policy
from stepup.domain.receipts import Redemption
from stepup.service.ports.audit import AuditTrail
from stepup.service.ports.challenges import Challenges
from stepup.service.ports.change_feed import ChangeFeed
from stepup.service.ports.people import AskedPeople, EventClients, PastAuthenticators, People


class Authenticators(Protocol):
    """The authenticators in force, at most one per user."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> Authenticator | None:
        """Return the user's authenticator. It MUST see what was committed before the call."""
        ...

    async def find_for_update(self, tenant_id: TenantId, user_id: UserId) -> Authenticator | None:
        """Return the user's authenticator, in a transaction; another such call waits for its end.

        It MUST be locked, so that of parallel attempts one is decided after the other (S3). So MUST
        its absence: a revocation and a first enrollment wait for each other (S10).
        """
        ...

    async def add(self, authenticator: Authenticator) -> None:
        """Store a new authenticator, at version 0; it is in force from the commit on.

        Raises:
            ConflictError: the user has one.
        """
        ...

    async def save(self, authenticator: Authenticator) -> None:
        """Replace what an attempt or a new key has changed, and count the version up.

        It MUST be one statement whose condition names the enrollment and the version that was read,
        and MUST NOT lower `last_step` (S2).

        Raises:
            ConflictError: the stored version is another one, or the authenticator is gone.
        """
        ...

    async def remove(self, authenticator: Authenticator) -> None:
        """Delete the authenticator, and its reset code with it.

        Raises:
            ConflictError: the stored version is another one, or the authenticator is gone.
        """
        ...


class ResetCodes(Protocol):
    """The reset code of each authenticator in force."""

    async def exists(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """Whether the user has a reset code."""
        ...

    async def find_for_update(self, tenant_id: TenantId, user_id: UserId) -> ResetCodeRecord | None:
        """Return the user's reset code, in a transaction; it MUST be locked until the end (S8)."""
        ...

    async def replace(self, record: ResetCodeRecord) -> None:
        """Store the reset code of an authenticator in force, in place of the one before, if any.

        The transaction MUST hold the lock of the authenticator. A later `save` of the code before
        MUST fail.
        """
        ...

    async def add(self, record: ResetCodeRecord) -> None:
        """Store the reset code of a new authenticator.

        Raises:
            ConflictError: the user has one.
        """
        ...

    async def save(self, record: ResetCodeRecord) -> None:
        """Replace sessions and `sealed_key`, under the conditions of `Authenticators.save`.

        Raises:
            ConflictError: the stored version is another one, or the reset code is gone.
        """
        ...


class PendingEnrollments(Protocol):
    """The open wizards, at most one per session."""

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> PendingEnrollment | None:
        """Return the session's wizard, expired or not."""
        ...

    async def find_for_update(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> PendingEnrollment | None:
        """Return the session's wizard, expired or not, in a transaction.

        It MUST be locked until the end, and so MUST its absence: of two calls that find none, the
        later one waits, and finds the wizard that the earlier one has stored.
        """
        ...

    async def replace(self, pending: PendingEnrollment) -> None:
        """Store a wizard at version 0, in place of the session's earlier one if there is one."""
        ...

    async def save(
        self, pending: PendingEnrollment, reset_code: ResetCodeRecord | None = None
    ) -> None:
        """Replace `failures`, `sealed_secret`, `confirmed_step` and the reset code.

        Args:
            pending: the wizard with the new values.
            reset_code: the record of its reset code; None keeps the stored one.

        Raises:
            ConflictError: the stored version is another one, or the wizard is gone.
        """
        ...

    async def sessions(self, tenant_id: TenantId, user_id: UserId) -> Sequence[SessionHash]:
        """Return the sessions in which the user has a wizard, expired or not."""
        ...

    async def reset_code(self, pending: PendingEnrollment) -> ResetCodeRecord | None:
        """Return the reset code that was stored with the confirmation."""
        ...

    async def remove(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> int:
        """Delete the session's wizard, or without a session all of the user's; return how many."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` expired wizards, of all tenants; return how many."""
        ...


class Policies(Protocol):
    """The policies of all tenants that ever had one."""

    async def find(self, tenant_id: TenantId) -> Policy | None:
        """Return the tenant's policy. It MUST see what was committed before the call."""
        ...

    async def find_for_update(self, tenant_id: TenantId) -> Policy | None:
        """Return the tenant's policy, in a transaction; it MUST be locked until the end."""
        ...

    async def save(self, policy: Policy) -> None:
        """Store a policy of version N in place of version N - 1; version 1 is a tenant's first.

        Raises:
            ConflictError: the stored version is another one.
        """
        ...


class Accounts(Protocol):
    """The MFA toggles of the users' own accounts."""

    async def mfa_enabled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """Whether the toggle is on; it is off until it is first turned on."""
        ...

    async def mfa_enabled_for_update(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """As `mfa_enabled`, in a transaction; the toggle MUST be locked until the end."""
        ...

    async def set_mfa_enabled(self, tenant_id: TenantId, user_id: UserId, enabled: bool) -> None:
        """Turn the toggle on or off."""
        ...

    async def remove(self, tenant_id: TenantId, user_id: UserId) -> None:
        """Forget the toggle, and with it that the user ever had an authenticator."""
        ...


class Redemptions(Protocol):
    """The receipts that retries have used."""

    async def redeem(
        self, tenant_id: TenantId, receipt_of: UUID, redemption: Redemption, forget_at: datetime
    ) -> bool:
        """Record that a receipt is used; return False if it was used before.

        It MUST be one statement, so that of parallel retries one wins; the others wait until its
        transaction has ended. The record is kept until `forget_at` at least.

        Args:
            tenant_id: the tenant.
            receipt_of: the decision that the receipt is of.
            redemption: the record of this use.
            forget_at: when the record may be deleted.
        """
        ...

    async def find(self, tenant_id: TenantId, receipt_of: UUID) -> Redemption | None:
        """Return how a receipt was used; None also if an older version of stepup recorded it."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Delete up to `limit` records whose `forget_at` has come; return how many."""
        ...


@dataclass(frozen=True, slots=True)
class SealCounts:
    """How many stored secrets one key seals."""

    authenticators: int = 0
    pending_enrollments: int = 0
    reset_codes: int = 0


class KeyUses(Protocol):
    """Which key seals which secret, over all tenants: for rotation. Nothing is locked."""

    async def counts(self) -> Mapping[str, SealCounts]:
        """Return how many secrets each key seals, by the key's id."""
        ...

    async def sample(self, limit: int) -> frozenset[str]:
        """Return the ids of the keys that seal `limit` secrets of each kind: for a quick check."""
        ...

    async def users_without(
        self, key_id: str, after: tuple[TenantId, UserId] | None, limit: int
    ) -> Sequence[tuple[TenantId, UserId]]:
        """Return users with a secret that another key seals, in a stable order.

        Args:
            key_id: the key that should seal all secrets.
            after: the last user of the previous answer, None for the first.
            limit: how many users at most.
        """
        ...


@dataclass(frozen=True, slots=True)
class Records:
    """All repositories, on one connection."""

    authenticators: Authenticators
    reset_codes: ResetCodes
    pending: PendingEnrollments
    policies: Policies
    accounts: Accounts
    redemptions: Redemptions
    challenges: Challenges
    people: People
    asked: AskedPeople
    past: PastAuthenticators
    audit: AuditTrail
    clients: EventClients
    changes: ChangeFeed
    key_uses: KeyUses


class Database(Protocol):
    """The durable store."""

    def transaction(
        self, tenant_id: TenantId | None = None
    ) -> AbstractAsyncContextManager[Records]:
        """Read and write: all is committed, and durable, when the block ends without an error.

        Work for a tenant MUST name it; None is for work of no tenant. Work of one tenant MUST NOT
        take all the room that the work of others needs (S18).

        If the block fails, or the call is cancelled in it, nothing is stored. If the commit itself
        fails, `StoreUnavailableError` is raised; a cancellation that arrives during the commit is
        raised after it. In both cases all is stored or nothing is.
        """
        ...

    def snapshot(self, tenant_id: TenantId | None = None) -> AbstractAsyncContextManager[Records]:
        """Read only, without locks: each read sees what was committed before it.

        `tenant_id` is as for `transaction`.
        """
        ...

    def reserved_snapshot(self) -> AbstractAsyncContextManager[Records]:
        """As `snapshot`, for the polls of a worker. A poll MUST NOT wait for reads of calls."""
        ...

    async def check_writes(self) -> None:
        """Return when a write was committed. It MUST leave nothing behind."""
        ...
