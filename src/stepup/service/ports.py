"""What the use cases need from the outside, as promises that an implementation must keep.

Every port may raise `StoreUnavailableError`, and only that, when its store cannot be reached, is
full, or does not answer in time. A driver's exception never passes a port.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from stepup.domain.actor import CallerId, SessionHash, TenantId, UserId
from stepup.domain.audit import ChainedEvent, Event, EventKind, Json
from stepup.domain.authenticator import Authenticator, ResetCodeRecord, SealedSecret
from stepup.domain.chain import Damage, StoredEvent, StoredHead
from stepup.domain.changes import Change, UserRevocations
from stepup.domain.elevation import Elevation
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.policy import Policy
from stepup.domain.rate import Rate
from stepup.domain.receipts import MacKeys, Redemption
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.domain.verification import Verification


class Clock(Protocol):
    """The server's clock. The pipeline reads it once per call, at receipt (S1)."""

    def now(self) -> datetime:
        """The time, UTC and aware, to the microsecond. It may be set, back as well."""
        ...

    def monotonic(self) -> float:
        """Seconds since some instant; never set, never backwards. For ages of what is in memory."""
        ...


# --- SQL: what must survive everything ---------------------------------------------------------


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
class EventQuery:
    """Which events of a tenant to read: every condition holds; None and empty mean all."""

    tenant_id: TenantId
    after_sequence: int = 0
    start: datetime | None = None
    end: datetime | None = None
    user_id: UserId | None = None
    kinds: frozenset[EventKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader of a chain is: it has read `seen` rows from the number `sequence` on.

    A number alone would not do: after damage there may be two rows of one number.
    """

    sequence: int | None = None
    seen: int = 0


class StoredChains(Protocol):
    """The audit events as they lie there, for verification: no row is too damaged to be read.

    Tenants are ASCII with surrogate escapes (PEP 383): after damage one may be no `TenantId`. What
    is read MUST come from the rows themselves, not from an index over them.
    """

    async def next_tenant(self, after: str | None) -> str | None:
        """The tenant after a tenant, or the first, of those that have events or a head; or None."""
        ...

    async def stored(self, tenant: str, place: Place, limit: int) -> Sequence[StoredEvent]:
        """The next rows in the order of numbers, those without one last.

        A row that `append` would not have written exactly so, to the byte, MUST come as
        `Unreadable`.
        """
        ...

    async def head(self, tenant: str) -> StoredHead:
        """The head of the chain."""
        ...

    async def misplaced(self, limit: int) -> Sequence[Damage]:
        """Rows that belong to no tenant at all, and so to no chain; the first few."""
        ...


class AuditTrail(StoredChains, Protocol):
    """The audit events, one hash chain per tenant (S13, S14)."""

    async def append(self, event: Event) -> ChainedEvent:
        """Add an event after the tenant's last one, in the transaction of what it tells about.

        Parallel transactions MUST get different sequence numbers without a gap: the tenant's chain
        is locked until the end. Append last, so that everybody takes locks in the same order.
        """
        ...

    async def list(self, query: EventQuery, limit: int) -> Sequence[ChainedEvent]:
        """The first events that match, in the order of their sequence numbers."""
        ...


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


# --- Redis: what is hot and short-lived --------------------------------------------------------


class Elevations(Protocol):
    """The live elevations, one per session."""

    async def ping(self) -> None:
        """Return when every part of the store that holds elevations answers."""
        ...

    async def check_writes(self) -> None:
        """Return when every part of the store has taken a write, which is gone soon."""
        ...

    async def put(self, elevation: Elevation) -> None:
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


# --- Keys, decision log ------------------------------------------------------------------------


class Keys(Protocol):
    """The key ring. Purposes are separated: no key derived for one serves another.

    The ring may change between two calls: a running server follows a rotation.
    """

    @property
    def primary(self) -> str:
        """The id of the key that new seals and MACs take."""
        ...

    @property
    def receipts(self) -> MacKeys:
        """The MAC keys of retry receipts."""
        ...

    @property
    def page_tokens(self) -> MacKeys:
        """The MAC keys of page tokens."""
        ...

    @property
    def stored_values(self) -> MacKeys:
        """The MAC keys of elevations and recorded outcomes (S25)."""
        ...

    def seal(
        self, secret: TotpSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> SealedSecret:
        """Encrypt a secret with the primary key, bound to where it belongs (S6)."""
        ...

    def open(
        self, sealed: SealedSecret, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> TotpSecret:
        """Decrypt a secret.

        Raises:
            SealBrokenError: it was altered, belongs elsewhere, or its key is not in the ring.
            StoreUnavailableError: its key was added to the ring just now, and is not usable yet.
        """
        ...

    def record_reset_code(
        self, code: ResetCode, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> ResetCodeRecord:
        """What is stored of a reset code: a keyed hash, its key sealed by the primary key (S8)."""
        ...

    def is_reset_code(self, code: ResetCode, record: ResetCodeRecord) -> bool:
        """Whether this is the reset code on record, in constant time.

        Raises:
            SealBrokenError: the record was altered, belongs elsewhere, or its key is not in the
                ring.
            StoreUnavailableError: as `open`.
        """
        ...

    def reseal_reset_code(
        self, record: ResetCodeRecord, to: tuple[TenantId, UserId] | None = None
    ) -> ResetCodeRecord:
        """The record under the primary key, for the same code; it will belong to the user `to`.

        Raises:
            SealBrokenError: as `is_reset_code`.
            StoreUnavailableError: as `open`.
        """
        ...

    def fingerprint(self, *parts: str) -> bytes:
        """A keyed hash by which equal requests are recognised: 32 bytes."""
        ...


class HeadKeys(Protocol):
    """What signs exported heads: Ed25519, with a key for this purpose only."""

    @property
    def primary(self) -> str:
        """The id of the key that signs."""
        ...

    def sign_head(self, message: bytes) -> bytes:
        """Sign with that key: 64 bytes."""
        ...


class SealBrokenError(Exception):
    """A stored secret cannot be opened: tampering, or a key that was retired too early.

    No caller can do anything about it: it is answered as an internal error. The fields say which
    secret it is, for the operator.
    """

    def __init__(
        self, problem: str, tenant_id: TenantId, user_id: UserId, enrollment_id: str
    ) -> None:
        super().__init__(problem)
        self.tenant_id = tenant_id
        self.user_id = user_id
        self.enrollment_id = enrollment_id


@dataclass(frozen=True, slots=True)
class DecisionEntry:
    """One line of the decision log: JSON values by name, never a secret."""

    decision_id: UUID
    decided_at: datetime
    caller: CallerId
    facts: Mapping[str, Json]


class DecisionLog(Protocol):
    """Where every decision stands before it is answered (S13)."""

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order; they have left the process when the call returns."""
        ...
