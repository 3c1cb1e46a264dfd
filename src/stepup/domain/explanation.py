"""Explains the rules of callers: why a call is permitted or refused, and what never applies.

An entry that no call can ever match is a typing error, or a misunderstanding.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from enum import Enum, unique

from stepup.domain.actor import TenantId
from stepup.domain.callers import Caller, Claim, Demands, Grant, Patterns, Rule, RulePart
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError
from stepup.domain.operations import OperationId
from stepup.domain.values import value


@value
class Question:
    """A call as far as rules are concerned.

    `tenant_id` and `operation` are None for a method that demands none. Claims that do not count
    with the operation change nothing. The claim of an outsider is the only one. `required_method`
    and `every_tenant` are as in `Demands`.
    """

    method: str
    tenant_id: TenantId | None = None
    operation: OperationId | None = None
    claims: tuple[Claim, ...] = ()
    required_method: str | None = None
    every_tenant: bool = False

    @property
    def demanded_method(self) -> str | None:
        """The other method that the caller must be permitted to use; none if an outsider acts."""
        is_of_outsider = any(claim.is_of_outsider for claim in self.claims)
        return None if is_of_outsider else self.required_method


@value
class Mismatch:
    """The first part of a rule that does not grant what was demanded."""

    rule: Rule
    part: RulePart


@value
class Refusal:
    """The error of the call, and for every rule the part that does not permit the call."""

    error: CallerNotPermittedError | ClaimNotPermittedError
    mismatches: tuple[Mismatch, ...]


def explain(caller: Caller, question: Question) -> Grant | Refusal:
    """Return the rules that grant the call and each of its claims; else the first refusal.

    Each answer is that of a demand which the service makes of a call, so that it cannot be another.
    """
    demanded = question
    try:
        rule = caller.demand_method(question.method)
        if question.every_tenant:
            return Grant(caller.demand_for_every_tenant(question.method), {})
        if question.tenant_id is None:
            return Grant(rule, {})
        rule = caller.demand(question.method, question.tenant_id, question.operation)
        if question.demanded_method is not None:
            demanded = replace(question, method=question.demanded_method)
            caller.demand(demanded.method, question.tenant_id, question.operation)
        return Grant(rule, _claims(caller, question, question.tenant_id))
    except CallerNotPermittedError as error:
        return Refusal(error, _mismatches(caller, demanded, None))
    except ClaimNotPermittedError as error:
        return Refusal(error, _mismatches(caller, question, Claim(error.claim)))


def _claims(caller: Caller, question: Question, tenant_id: TenantId) -> dict[Claim, Rule]:
    return {
        claim: caller.demand_claim(question.method, tenant_id, question.operation, claim)
        for claim in question.claims
        if claim.counts_with(question.operation)
    }


def _mismatches(caller: Caller, question: Question, claim: Claim | None) -> tuple[Mismatch, ...]:
    # No tenant has this name, and so only the wildcard matches it.
    tenant_id = "*" if question.every_tenant else question.tenant_id
    compared = (
        (rule, rule.mismatch(question.method, tenant_id, question.operation, claim))
        for rule in caller.rules
    )
    return tuple(Mismatch(rule, part) for rule, part in compared if part is not None)


@unique
class Why(Enum):
    """Why an entry never applies."""

    MATCHES_NOTHING = "matches_nothing"
    """The entry matches no method or operation."""
    NO_METHODS = "no_methods"
    """The rule has no methods, and so grants nothing."""
    NO_TENANTS = "no_tenants"
    """All methods that the entry matches demand a tenant, and the rule has no tenants."""
    NOT_ALL_TENANTS = "not_all_tenants"
    """All methods that the entry matches demand a rule for all tenants, which the rule is not."""
    NO_OPERATIONS = "no_operations"
    """All methods that the entry matches demand an operation, and the rule has no operations."""
    LIMITS_NOTHING = "limits_nothing"
    """No method of the rule demands an operation."""
    NEVER_COUNTS = "never_counts"
    """The claim counts in no call that the rule grants."""


@value
class IdleEntry:
    """An entry of a rule that never applies.

    `entry` is the text in the settings, None if the part of the rule has no entries.
    """

    rule: Rule
    part: RulePart
    entry: str | None
    why: Why


def idle_entries(
    rule: Rule, methods: Collection[Demands], operations: Collection[OperationId]
) -> list[IdleEntry]:
    """What in a rule can never apply to any of these methods and operations."""
    # A mistake is reported without its consequences.
    return (
        list(_matching_nothing(rule, methods, operations))
        or list(_granting_nothing(rule, methods))
        or list(_changing_nothing(rule, methods, operations))
    )


def _matching_nothing(
    rule: Rule, methods: Collection[Demands], operations: Collection[OperationId]
) -> Iterator[IdleEntry]:
    for entry in rule.methods.entries:
        if not _matching(entry, methods):
            yield IdleEntry(rule, RulePart.METHODS, entry, Why.MATCHES_NOTHING)
    for entry in rule.operations.entries:
        if not any(operation in Patterns([entry]) for operation in operations):
            yield IdleEntry(rule, RulePart.OPERATIONS, entry, Why.MATCHES_NOTHING)


def _granting_nothing(rule: Rule, methods: Collection[Demands]) -> Iterator[IdleEntry]:
    if not rule.methods.entries:
        yield IdleEntry(rule, RulePart.METHODS, None, Why.NO_METHODS)
    for entry in rule.methods.entries:
        matching = _matching(entry, methods)
        if not rule.tenants.entries and all(method.tenant for method in matching):
            yield IdleEntry(rule, RulePart.METHODS, entry, Why.NO_TENANTS)
        elif not rule.tenants.covers("*") and all(method.every_tenant for method in matching):
            yield IdleEntry(rule, RulePart.METHODS, entry, Why.NOT_ALL_TENANTS)
        elif not rule.operations.entries and all(method.operation for method in matching):
            yield IdleEntry(rule, RulePart.METHODS, entry, Why.NO_OPERATIONS)


def _changing_nothing(
    rule: Rule, methods: Collection[Demands], operations: Collection[OperationId]
) -> Iterator[IdleEntry]:
    granted = [method for method in methods if method.method in rule.methods]
    if not any(method.operation for method in granted):
        for entry in rule.operations.entries:
            # An operator who writes `*` does not mean a limit.
            if entry != "*":
                yield IdleEntry(rule, RulePart.OPERATIONS, entry, Why.LIMITS_NOTHING)
    covered = [operation for operation in operations if operation in rule.operations]
    asserted_with = [
        operation
        for method in granted
        if method.claims
        for operation in (covered if method.operation else [None])
    ]
    for claim in Claim:
        counts = (
            any(claim in method.outsiders for method in granted)
            if claim.is_of_outsider
            else any(map(claim.counts_with, asserted_with))
        )
        if claim in rule.claims and not counts:
            yield IdleEntry(rule, RulePart.CLAIMS, claim.value, Why.NEVER_COUNTS)


def _matching(entry: str, methods: Collection[Demands]) -> list[Demands]:
    return [method for method in methods if method.method in Patterns([entry])]
