"""What each calling service may do (S15, S16): nothing, unless a rule says so.

A rule grants some methods for some tenants, operations and claims. Wildcards are explicit: `*` is
everything, and `prefix*` what begins with the prefix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from enum import Enum, StrEnum, unique
from functools import lru_cache, partial

from stepup.domain.actor import Actor, CallerId, Deprovisioning, Operator, Outsider, TenantId
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError, InvalidValueError
from stepup.domain.operations import SIGN_IN, OperationId
from stepup.domain.origins import WebOrigin
from stepup.domain.rate import Rate
from stepup.domain.text import Title
from stepup.domain.values import value

MAX_COMPILED = 4096
"""How many answers of a caller's rules are remembered; operations in a call are those in the
catalogue, so that there are not many more."""


@unique
class Claim(StrEnum):
    """What a caller asserts of an actor to get an exemption or a right."""

    MANAGED_SERVICES = "managed_services"
    AUTOMATIC_PLAYBOOK = "automatic_playbook"
    TIMED_OUT_RETRY = "timed_out_retry"
    SAML_ACCOUNT = "saml_account"
    MASTER_ADMINISTRATOR = "master_administrator"
    OPERATOR = "operator"
    DEPROVISIONING = "deprovisioning"

    @property
    def is_of_outsider(self) -> bool:
        """Whether it replaces the person: then it is the only claim of the actor context."""
        return self in (Claim.OPERATOR, Claim.DEPROVISIONING)

    def counts_with(self, operation: OperationId | None) -> bool:
        """Whether it leads to anything: how an account signs in does so at sign-in only."""
        return self is not Claim.SAML_ACCOUNT or operation == SIGN_IN


def claims_of(actor: Actor | Outsider, operation: OperationId | None) -> Iterator[Claim]:
    """What an actor context asserts that counts with the operation."""
    if isinstance(actor, Operator):
        yield Claim.OPERATOR
        return
    if isinstance(actor, Deprovisioning):
        yield Claim.DEPROVISIONING
        return
    if actor.is_managed_services:
        yield Claim.MANAGED_SERVICES
    if actor.in_automatic_playbook:
        yield Claim.AUTOMATIC_PLAYBOOK
    if actor.retry_receipt is not None:
        yield Claim.TIMED_OUT_RETRY
    if actor.is_saml and Claim.SAML_ACCOUNT.counts_with(operation):
        yield Claim.SAML_ACCOUNT
    if actor.is_master_administrator:
        yield Claim.MASTER_ADMINISTRATOR


class Patterns:
    """A set of names, some of which end in a wildcard; `entries` has them as they were written.

    Raises:
        InvalidValueError: a wildcard stands elsewhere than at the end, or a name is empty.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.entries = tuple(patterns)
        self._names: set[str] = set()
        prefixes: list[str] = []
        for pattern in self.entries:
            # No id has other characters; a rule that could never match is a mistake (S29).
            is_printable_ascii = pattern.isascii() and pattern.isprintable()
            if not pattern or "*" in pattern[:-1] or not is_printable_ascii:
                raise InvalidValueError(
                    "must be names in printable ASCII, or prefixes that end in *"
                )
            if pattern.endswith("*"):
                prefixes.append(pattern[:-1])
            else:
                self._names.add(pattern)
        self._prefixes = tuple(prefixes)

    def __contains__(self, name: str) -> bool:
        return name in self._names or name.startswith(self._prefixes)

    def covers(self, pattern: str) -> bool:
        """Whether one entry matches every name that another pattern matches."""
        if pattern.endswith("*"):
            return pattern[:-1].startswith(self._prefixes)
        return pattern in self

    def overlaps(self, other: "Patterns") -> bool:
        """Whether some name matches both patterns."""
        return any(map(self.covers, other.entries)) or any(map(other.covers, self.entries))


@unique
class RulePart(Enum):
    """A part of a rule, in the order in which a rule is compared with a call."""

    METHODS = "methods"
    TENANTS = "tenants"
    OPERATIONS = "operations"
    CLAIMS = "claims"


@value
class Rule:
    """One grant. `origin` is where it is written, for explanations: `callers[0].rules[1]`."""

    origin: str
    methods: Patterns
    tenants: Patterns
    operations: Patterns
    claims: frozenset[Claim]

    def mismatch(
        self, method: str, tenant_id: str | None, operation: str | None, claim: Claim | None
    ) -> RulePart | None:
        """The first part that does not grant this; None when all do. None is not looked at."""
        if method not in self.methods:
            return RulePart.METHODS
        if tenant_id is not None and tenant_id not in self.tenants:
            return RulePart.TENANTS
        if operation is not None and operation not in self.operations:
            return RulePart.OPERATIONS
        if claim is not None and claim not in self.claims:
            return RulePart.CLAIMS
        return None


@value
class Grant:
    """Why a call may be made: the rule that grants it, and the one that grants each claim."""

    rule: Rule
    claims: Mapping[Claim, Rule]


@value
class Caller:
    """A service that may call: what its credentials name it, and what it may do.

    `identities` are SPIFFE ids of certificates and subjects of tokens, any of which is this caller.
    `rate` is how often the caller may call for each tenant; None sets no limit. `title` is the
    caller's name for people, None if the settings have none. `return_origins` are those to which
    pages that the caller opens may send people; an anonymous caller needs no such list.
    `is_portal` says whether the caller is the web process, which acts within portal sessions (S20).
    """

    caller_id: CallerId
    identities: frozenset[str]
    rules: tuple[Rule, ...]
    rate: Rate | None = None
    title: Title | None = None
    return_origins: frozenset[WebOrigin] = frozenset()
    is_portal: bool = False
    _granting: Callable[[str, str | None, Claim | None], tuple[Rule, ...]] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        # Of methods, operations and claims there are few; of tenants there may be many.
        granting = lru_cache(MAX_COMPILED)(partial(_granting, self.rules))
        object.__setattr__(self, "_granting", granting)

    @property
    def is_anonymous(self) -> bool:
        """Whether it stands for all programs that reach a server without credentials of callers."""
        return not self.identities

    @property
    def title_for_people(self) -> str:
        """The name by which people know the caller: the title, else the id."""
        return self.title or self.caller_id

    def may_return_to(self, origin: WebOrigin) -> bool:
        """Whether a page that the caller opens may send a person to the origin (S21)."""
        return self.is_anonymous or origin in self.return_origins

    def rule_for(
        self,
        method: str,
        tenant_id: str | None,
        operation: str | None = None,
        claim: Claim | None = None,
    ) -> Rule | None:
        """The first rule that grants this, for some tenant if it is None; None when none does."""
        for rule in self._granting(method, operation, claim):
            if tenant_id is None or tenant_id in rule.tenants:
                return rule
        return None

    def demand_method(self, method: str) -> Rule:
        """A rule that grants the method for somebody, before the message is looked at.

        Raises:
            CallerNotPermittedError: none does.
        """
        rule = self.rule_for(method, None)
        if rule is None:
            raise CallerNotPermittedError(f"{self.caller_id} may not use {method}")
        return rule

    def demand(self, method: str, tenant_id: TenantId, operation: OperationId | None) -> Rule:
        """The rule that grants the method for the tenant and the operation.

        Raises:
            CallerNotPermittedError: none does.
        """
        rule = self.rule_for(method, tenant_id, operation)
        if rule is None:
            what = f" and operation {operation}" if operation else ""
            raise CallerNotPermittedError(
                f"{self.caller_id} may not use {method} for this tenant{what}"
            )
        return rule

    def demand_for_every_tenant(self, method: str) -> Rule:
        """The rule that grants the method for all tenants, by the wildcard `*`.

        Raises:
            CallerNotPermittedError: none does.
        """
        for rule in self._granting(method, None, None):
            if rule.tenants.covers("*"):
                return rule
        raise CallerNotPermittedError(
            f"{self.caller_id} may not use {method}: it needs a rule for all tenants (*)"
        )

    def demand_claims(
        self, method: str, actor: Actor | Outsider, operation: OperationId | None
    ) -> Mapping[Claim, Rule]:
        """The rules that grant the claims of the actor context, one for each.

        Raises:
            ClaimNotPermittedError: one is not granted.
        """
        return {
            claim: self.demand_claim(method, actor.tenant_id, operation, claim)
            for claim in claims_of(actor, operation)
        }

    def demand_claim(
        self, method: str, tenant_id: TenantId, operation: OperationId | None, claim: Claim
    ) -> Rule:
        """The rule that grants a claim together with the method, the tenant and the operation.

        Raises:
            ClaimNotPermittedError: none does.
        """
        rule = self.rule_for(method, tenant_id, operation, claim)
        if rule is None:
            raise ClaimNotPermittedError(
                claim.value, f"{self.caller_id} may not assert {claim.value}"
            )
        return rule


def _granting(
    rules: Iterable[Rule], method: str, operation: str | None, claim: Claim | None
) -> tuple[Rule, ...]:
    """The rules that grant this for some tenant."""
    return tuple(rule for rule in rules if rule.mismatch(method, None, operation, claim) is None)


@value
class Demands:
    """What a method demands of the rules beside itself: a tenant, an operation, an actor's claims.

    Nothing is asked of a rule's tenants, operations or claims that the method does not demand.
    `required_method` is another method that the caller must be permitted to use for the same tenant
    and operation, unless an outsider acts. `outsiders` has the claims of the outsiders that the
    method accepts. `every_tenant` says whether the method demands a rule for all tenants.
    """

    method: str
    tenant: bool
    operation: bool
    claims: bool
    required_method: str | None = None
    outsiders: frozenset[Claim] = frozenset()
    every_tenant: bool = False


class Callers:
    """All callers, by what their credentials name them."""

    def __init__(self, callers: Iterable[Caller]) -> None:
        """Register callers.

        Raises:
            InvalidValueError: two callers share a name or an identity.
        """
        self._by_name: dict[str, Caller] = {}
        self._by_identity: dict[str, Caller] = {}
        for caller in callers:
            if caller.caller_id in self._by_name:
                raise InvalidValueError(f"has the caller {caller.caller_id!r} twice")
            self._by_name[caller.caller_id] = caller
            for identity in caller.identities:
                if identity in self._by_identity:
                    raise InvalidValueError(f"has the identity {identity!r} twice")
                self._by_identity[identity] = caller

    def __iter__(self) -> Iterator[Caller]:
        """All of them, in the order in which they were registered."""
        return iter(self._by_name.values())

    def identified(self, identity: str) -> Caller | None:
        """The caller that credentials name; None when it is not registered."""
        return self._by_identity.get(identity)

    def named(self, caller_id: str) -> Caller | None:
        """The caller of this name."""
        return self._by_name.get(caller_id)
