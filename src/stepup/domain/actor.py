"""The person an action is done for. Every value checks itself when it is made."""

from dataclasses import field
from enum import StrEnum, unique
from hashlib import sha256
from typing import Self, TypeAlias
from uuid import UUID

from stepup.domain.errors import InvalidValueError, RoleRequiredError
from stepup.domain.text import OperatorName, OperatorReason
from stepup.domain.values import secret_value, value

MAX_ID_BYTES = 128
MAX_RECEIPT_BYTES = 512


class OpaqueId(str):
    """An id that a caller chose: 1 to 128 bytes of printable ASCII (0x20 to 0x7E), kept as is."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Check the id.

        Raises:
            InvalidValueError: it is empty, too long, or has another character.
        """
        if not value:
            raise InvalidValueError("is required")
        if len(value) > MAX_ID_BYTES or not (value.isascii() and value.isprintable()):
            raise InvalidValueError(f"must be 1 to {MAX_ID_BYTES} bytes of printable ASCII")
        return str.__new__(cls, value)


def folded(identifier: str) -> str:
    """An id in ASCII lower case, for deployments whose ids are not case-sensitive.

    Text with other characters stays as it is: some of them have an ASCII letter as lower case.
    """
    return identifier.lower() if identifier.isascii() else identifier


class TenantId(OpaqueId):
    """One business: the boundary of every policy, key and row."""

    __slots__ = ()


class UserId(OpaqueId):
    """A person within a tenant."""

    __slots__ = ()


class CallerId(OpaqueId):
    """A service that calls, known by its credentials."""

    __slots__ = ()


class SessionId(OpaqueId):
    """A console sign-in session. As good as a credential: store and log only its `SessionHash`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SessionId(...)"


class SessionHash(str):
    """The first 128 bits of SHA-256 over tenant, user and session, in hexadecimal (S9)."""

    __slots__ = ()


@unique
class AccountType(StrEnum):
    """How a person signs in."""

    LOCAL = "local"
    SAML = "saml"
    SAML_GROUP = "saml_group"


@unique
class Role(StrEnum):
    """A person's role, as far as step-up authorization cares."""

    MASTER_ADMINISTRATOR = "master_administrator"
    OTHER = "other"


@unique
class Team(StrEnum):
    """The team on whose behalf a person acts."""

    MANAGED_SERVICES_OPERATIONS = "managed_services_operations"
    OTHER = "other"


@unique
class PlaybookTrigger(StrEnum):
    """What started a playbook run."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


@value
class PlaybookRun:
    """The run of a security playbook that an action belongs to."""

    playbook_id: OpaqueId
    run_id: OpaqueId
    trigger: PlaybookTrigger


@secret_value
class RetryReceipt:
    """A receipt as a caller presents it, not yet checked. It never shows in a repr or a log (S11).

    Raises:
        InvalidValueError: it is longer than 512 bytes.
    """

    token: str

    def __post_init__(self) -> None:
        if len(self.token.encode()) > MAX_RECEIPT_BYTES:
            raise InvalidValueError(f"must be at most {MAX_RECEIPT_BYTES} bytes")


@value
class Device:
    """The device of a person, as a caller saw it. An empty text means unknown.

    The device of an event is stored beside the audit chain, and can be deleted: the chain has only
    a salted hash of the device.
    """

    address: str = ""
    user_agent: str = ""


@value
class Actor:
    """The person, their session, and the context that the exemptions read.

    `session_hash` is what stands for the session wherever something is stored.
    """

    tenant_id: TenantId
    user_id: UserId
    session_id: SessionId
    account_type: AccountType = AccountType.LOCAL
    role: Role = Role.OTHER
    team: Team = Team.OTHER
    playbook_run: PlaybookRun | None = None
    retry_receipt: RetryReceipt | None = None
    challenge_id: UUID | None = None
    client: Device | None = None
    session_hash: SessionHash = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Ids are printable, so that NUL separates them without ambiguity.
        material = f"{self.tenant_id}\0{self.user_id}\0{self.session_id}".encode()
        digest = SessionHash(sha256(material).hexdigest()[:32])
        object.__setattr__(self, "session_hash", digest)

    @property
    def is_saml(self) -> bool:
        """Whether an identity provider signs this person in."""
        return self.account_type in (AccountType.SAML, AccountType.SAML_GROUP)

    @property
    def is_managed_services(self) -> bool:
        """Whether the person acts for the Managed Services operations team."""
        return self.team is Team.MANAGED_SERVICES_OPERATIONS

    @property
    def in_automatic_playbook(self) -> bool:
        """Whether an automatically triggered playbook run does the action."""
        return (
            self.playbook_run is not None and self.playbook_run.trigger is PlaybookTrigger.AUTOMATIC
        )

    @property
    def is_master_administrator(self) -> bool:
        """Whether the person has the role that changes the policy."""
        return self.role is Role.MASTER_ADMINISTRATOR

    def require_master_administrator(self) -> None:
        """Demand the role that changes the policy and removes others' authenticators.

        Raises:
            RoleRequiredError: the person has another one.
        """
        if not self.is_master_administrator:
            raise RoleRequiredError("this needs the role of a Master Administrator")


@value
class Operator:
    """An operator of the platform, who acts in a tenant by name and with a reason (S16).

    An operator needs no elevation, and never weakens a policy, answers a challenge or elevates.
    """

    tenant_id: TenantId
    name: OperatorName
    reason: OperatorReason


@value
class Deprovisioning:
    """A program that provisions the users of a tenant, and forgets users after they left (S16)."""

    tenant_id: TenantId


Outsider: TypeAlias = Operator | Deprovisioning
"""Acts in a tenant without being one of its people: by a claim of its own, without a session."""
