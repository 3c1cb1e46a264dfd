"""The key ring: sealed secrets, MACs, keys of heads."""

from typing import Protocol

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.mac_keys import MacKeys
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret


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

    def refresh_for(self, key_id: str) -> None:
        """Take over a ring that has this key, if a rotation has just added it.

        Call it with the key id of a token before the MAC is checked. Anybody can make ids up: it
        MUST cost little however often it is called.
        """
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


class HeadSignatures(Protocol):
    """Verifies the signatures of heads and checkpoints."""

    def signature_problem(self, key_id: str, message: bytes, signature: bytes) -> str | None:
        """What is wrong with a signature; None if the key of this id made it."""
        ...


class HeadKeys(HeadSignatures, Protocol):
    """Signs exported heads and checkpoints: Ed25519, with a key for this purpose only."""

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
