"""Why a caller may make a call, or why not: the demands of the service, asked in its order."""

from stepup.domain.actor import TenantId
from stepup.domain.callers import Caller, Claim, Grant, Rule, RulePart
from stepup.domain.errors import CallerNotPermittedError, ClaimNotPermittedError
from stepup.domain.operations import OperationId
from stepup.domain.values import value


@value
class Question:
    """A call as far as rules are concerned.

    `tenant_id` and `operation` are None for a method that demands none. Claims that do not count
    with the operation are of no consequence.
    """

    method: str
    tenant_id: TenantId | None = None
    operation: OperationId | None = None
    claims: tuple[Claim, ...] = ()


@value
class Mismatch:
    """The first part of a rule that does not grant what was demanded."""

    rule: Rule
    part: RulePart


@value
class Refusal:
    """The error that the call would end with, and for every rule why it does not prevent it."""

    error: CallerNotPermittedError | ClaimNotPermittedError
    mismatches: tuple[Mismatch, ...]


def explain(caller: Caller, question: Question) -> Grant | Refusal:
    """The rules that grant the call and each of its claims; else what the first refusal is.

    Each answer is that of a demand which the service makes of a call, so that it cannot be another.
    """
    try:
        rule = caller.demand_method(question.method)
        if question.tenant_id is None:
            return Grant(rule, {})
        rule = caller.demand(question.method, question.tenant_id, question.operation)
        return Grant(rule, _claims(caller, question, question.tenant_id))
    except CallerNotPermittedError as error:
        return Refusal(error, _mismatches(caller, question, None))
    except ClaimNotPermittedError as error:
        return Refusal(error, _mismatches(caller, question, Claim(error.claim)))


def _claims(caller: Caller, question: Question, tenant_id: TenantId) -> dict[Claim, Rule]:
    return {
        claim: caller.demand_claim(question.method, tenant_id, question.operation, claim)
        for claim in question.claims
        if claim.counts_with(question.operation)
    }


def _mismatches(caller: Caller, question: Question, claim: Claim | None) -> tuple[Mismatch, ...]:
    compared = (
        (rule, rule.mismatch(question.method, question.tenant_id, question.operation, claim))
        for rule in caller.rules
    )
    return tuple(Mismatch(rule, part) for rule, part in compared if part is not None)
