"""What each calling service may do (S15, S16): nothing, unless a rule says so.

A rule grants some methods for some tenants, operations and claims. Wildcards are explicit: `*` is
everything, and `prefix*` what begins with the prefix.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, unique

from stepup.domain.actor import Actor, CallerId, TenantId
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError, InvalidValueError
from stepup.domain.operations import SIGN_IN, OperationId


@unique
class Claim(Enum):
    """What a caller asserts of an actor to get an exemption or a right."""

    MANAGED_SERVICES = "managed_services"
    AUTOMATIC_PLAYBOOK = "automatic_playbook"
    TIMED_OUT_RETRY = "timed_out_retry"
    SAML_ACCOUNT = "saml_account"
    MASTER_ADMINISTRATOR = "master_administrator"


def claims_of(actor: Actor, operation: OperationId | None) -> Iterator[Claim]:
    """What an actor context asserts. How an account signs in is a claim at sign-in only."""
    if actor.is_managed_services:
        yield Claim.MANAGED_SERVICES
    if actor.in_automatic_playbook:
        yield Claim.AUTOMATIC_PLAYBOOK
    if actor.retry_receipt is not None:
        yield Claim.TIMED_OUT_RETRY
    if actor.is_saml and operation == SIGN_IN:
        yield Claim.SAML_ACCOUNT
    if actor.is_master_administrator:
        yield Claim.MASTER_ADMINISTRATOR


class Patterns:
    """A set of names, some of which end in a wildcard.

    Raises:
        InvalidValueError: a wildcard stands elsewhere than at the end, or a name is empty.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names: set[str] = set()
        prefixes: list[str] = []
        for pattern in patterns:
            if not pattern or "*" in pattern[:-1]:
                raise InvalidValueError("must be names, or prefixes that end in *")
            if pattern.endswith("*"):
                prefixes.append(pattern[:-1])
            else:
                self._names.add(pattern)
        self._prefixes = tuple(prefixes)

    def __contains__(self, name: str) -> bool:
        return name in self._names or name.startswith(self._prefixes)


@dataclass(frozen=True, slots=True)
class Rule:
    """One grant. `origin` is where it is written, for explanations: `callers[0].rules[1]`."""

    origin: str
    methods: Patterns
    tenants: Patterns
    operations: Patterns
    claims: frozenset[Claim]

    def covers(self, method: str, tenant_id: str, operation: str | None) -> bool:
        """Whether it grants a method for a tenant, and for an operation if the call has one."""
        return (
            method in self.methods
            and tenant_id in self.tenants
            and (operation is None or operation in self.operations)
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """Why a call may be made: the rule that grants it, and the one that grants each claim."""

    rule: Rule
    claims: Mapping[Claim, Rule]


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that may call: what its credentials name it, and what it may do.

    `identities` are SPIFFE ids of certificates and subjects of tokens, any of which is this caller.
    """

    caller_id: CallerId
    identities: frozenset[str]
    rules: tuple[Rule, ...]

    def rule_for(
        self,
        method: str,
        tenant_id: str,
        operation: str | None = None,
        claim: Claim | None = None,
    ) -> Rule | None:
        """The first rule that grants this; None when nothing does."""
        for rule in self.rules:
            if rule.covers(method, tenant_id, operation) and (
                claim is None or claim in rule.claims
            ):
                return rule
        return None

    def demand_method(self, method: str) -> None:
        """Demand that some rule grants the method, before the message is looked at.

        Raises:
            CallerNotPermittedError: none does.
        """
        if not any(method in rule.methods for rule in self.rules):
            raise CallerNotPermittedError(f"{self.caller_id} may not use {method}")

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

    def demand_claims(
        self, method: str, actor: Actor, operation: OperationId | None
    ) -> Mapping[Claim, Rule]:
        """The rules that grant the claims of the actor context, one for each.

        Raises:
            ClaimNotPermittedError: one is not granted.
        """
        granting = {}
        for claim in claims_of(actor, operation):
            rule = self.rule_for(method, actor.tenant_id, operation, claim)
            if rule is None:
                raise ClaimNotPermittedError(
                    claim.value, f"{self.caller_id} may not assert {claim.value}"
                )
            granting[claim] = rule
        return granting


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

    def identified(self, identity: str) -> Caller | None:
        """The caller that credentials name; None when it is not registered."""
        return self._by_identity.get(identity)

    def named(self, caller_id: str) -> Caller | None:
        """The caller of this name."""
        return self._by_name.get(caller_id)
