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
from stepup.service.ports.change_feed import ChangeFeed


class Authenticators(Protocol):
    """The authenticators in force, at most one per user."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> Authenticator | None:
        """The user's authenticator.

        In a transaction it MUST be locked until the end, so that of parallel attempts one is
        decided after the other (S3). So is its absence: a revocation and a first enrollment wait
        for each other (S10).
        """
        ...

    async def active_enrollment(self, tenant_id: TenantId, user_id: UserId) -> str | None:
        """The enrollment id of the user's authenticator; nothing is locked, in a transaction too.

        It MUST see what was committed before the call.
        """
        ...

    async def add(self, authenticator: Authenticator) -> None:
        """Bring an authenticator into force, at version 0.

        Raises:
            ConflictError: the user has one.
        """
        ...

    async def save(self, authenticator: Authenticator) -> None:
        """Store what an attempt or a new key has changed, and count the version up.

        It MUST be one statement whose condition names the enrollment and the version that was read,
        and MUST NOT lower `last_step` (S2).

        Raises:
            ConflictError: the stored version is another one, or the authenticator is gone.
        """
        ...

    async def remove(self, authenticator: Authenticator) -> None:
        """Take the authenticator out of force, with its reset code.

        Raises:
            ConflictError: the stored version is another one, or the authenticator is gone.
        """
        ...


class ResetCodes(Protocol):
    """The reset code of each authenticator in force."""

    async def find(self, tenant_id: TenantId, user_id: UserId) -> ResetCodeRecord | None:
        """The user's reset code; locked in a transaction, as authenticators are."""
        ...

    async def add(self, record: ResetCodeRecord) -> None:
        """Store the reset code of a new authenticator.

        Raises:
            ConflictError: the user has one.
        """
        ...

    async def save(self, record: ResetCodeRecord) -> None:
        """Store changed sessions or `sealed_key`, with the conditions of `Authenticators.save`.

        Raises:
            ConflictError: the stored version is another one, or the reset code is gone.
        """
        ...


class PendingEnrollments(Protocol):
    """The open wizards, at most one per session."""

    async def find(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash
    ) -> PendingEnrollment | None:
        """The session's wizard, expired or not; locked in a transaction.

        So is its absence: of two calls that find none, the later one finds what the earlier one
        has put.
        """
        ...

    async def put(self, pending: PendingEnrollment) -> None:
        """Store a wizard at version 0, in place of the session's earlier one."""
        ...

    async def save(
        self, pending: PendingEnrollment, reset_code: ResetCodeRecord | None = None
    ) -> None:
        """Store changed `failures` or `sealed_secret`, the `confirmed_step`, the reset code.

        Args:
            pending: the wizard with what has changed.
            reset_code: the record of its reset code; None leaves what is stored.

        Raises:
            ConflictError: the stored version is another one, or the wizard is gone.
        """
        ...

    async def sessions(self, tenant_id: TenantId, user_id: UserId) -> Sequence[SessionHash]:
        """The sessions in which the user has a wizard, expired or not; nothing is locked."""
        ...

    async def reset_code(self, pending: PendingEnrollment) -> ResetCodeRecord | None:
        """The reset code that was stored with the confirmation."""
        ...

    async def remove(
        self, tenant_id: TenantId, user_id: UserId, session_hash: SessionHash | None = None
    ) -> int:
        """Remove the session's wizard, or all of the user's; returns how many there were."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Remove up to `limit` expired wizards, of all tenants; returns how many."""
        ...


class Policies(Protocol):
    """The policies that were ever set."""

    async def find(self, tenant_id: TenantId) -> Policy | None:
        """The tenant's policy; locked in a transaction."""
        ...

    async def save(self, policy: Policy) -> None:
        """Store a policy of version N in place of version N - 1; none is stored for version 0.

        Raises:
            ConflictError: the stored version is another one.
        """
        ...


class Accounts(Protocol):
    """The users' own MFA toggles."""

    async def mfa_enabled(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """The toggle; off when it was never turned."""
        ...

    async def set_mfa_enabled(self, tenant_id: TenantId, user_id: UserId, enabled: bool) -> None:
        """Turn the toggle."""
        ...


class Redemptions(Protocol):
    """The receipts that retries have used."""

    async def redeem(
        self, tenant_id: TenantId, receipt_of: UUID, redemption: Redemption, forget_at: datetime
    ) -> bool:
        """Use a receipt up; False when it was used before.

        It MUST be one statement, so that of parallel retries one wins; the others wait until its
        transaction has ended. The record is kept until `forget_at` at least.

        Args:
            tenant_id: the tenant.
            receipt_of: the decision that the receipt is of.
            redemption: what is recorded of this use.
            forget_at: when the record may be removed.
        """
        ...

    async def find(self, tenant_id: TenantId, receipt_of: UUID) -> Redemption | None:
        """How a receipt was used; None also where a server of an earlier version recorded it."""
        ...

    async def purge(self, now: datetime, limit: int) -> int:
        """Forget up to `limit` receipts that may be forgotten; returns how many."""
        ...


@dataclass(frozen=True, slots=True)
class SealCounts:
    """How many stored secrets one key seals."""

    authenticators: int = 0
    pending_enrollments: int = 0
    reset_codes: int = 0


class Seals(Protocol):
    """Which key seals what, over all tenants: for rotation. Nothing is locked."""

    async def counts(self) -> Mapping[str, SealCounts]:
        """How many secrets each key seals, by its id."""
        ...

    async def users_without(
        self, key_id: str, after: tuple[TenantId, UserId] | None, limit: int
    ) -> Sequence[tuple[TenantId, UserId]]:
        """Users of whom something is sealed by another key, in a stable order.

        Args:
            key_id: the one key that does not count.
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
    audit: AuditTrail
    changes: ChangeFeed
    seals: Seals


class Database(Protocol):
    """The durable store."""

    def transaction(
        self, tenant_id: TenantId | None = None
    ) -> AbstractAsyncContextManager[Records]:
        """Read and write: all is committed, and durable, when the block ends without an error.

        Work for a tenant MUST name it; None is for work of no tenant. Work of one tenant MUST NOT
        take all the room that the work of others needs (S18).

        On any error, or when the call is cancelled in the block, nothing of it is stored. If the
        commit itself fails, `StoreUnavailableError` is raised; if the call is cancelled during the
        commit, that is raised after it. In both cases all is stored or nothing is.
        """
        ...

    def snapshot(self, tenant_id: TenantId | None = None) -> AbstractAsyncContextManager[Records]:
        """Read only, without locks: each read sees what was committed before it.

        `tenant_id` is as for `transaction`.
        """
        ...

    def reserved_snapshot(self) -> AbstractAsyncContextManager[Records]:
        """As `snapshot`, for the change feed: it MUST NOT wait for what any other call reads."""
        ...

    async def check_writes(self) -> None:
        """Return when a write was committed. It MUST leave nothing behind."""
        ...
