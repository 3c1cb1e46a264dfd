"""`stepup check-config --caller`: which rules permit a call, or why none does (S15, S16)."""

from collections.abc import Collection, Iterator

import typer

from stepup.cli.output import failure
from stepup.domain.actor import TenantId, folded
from stepup.domain.callers import Caller, Claim, Demands, Grant, Rule, RulePart
from stepup.domain.errors import InvalidValueError
from stepup.domain.explanation import Question, Refusal, explain
from stepup.domain.operations import OperationId
from stepup.rpc.server.server import DEMANDS
from stepup.rpc.wire.errors import to_status
from stepup.settings import Settings
from stepup.system.near_names import instead_of
from stepup.wiring.credentials import ANYONE, LOCAL_CALLER

_ALL_ARE_ALIKE = "without tls or token_issuers every caller is {}, who may do everything"


def caller_of(settings: Settings, name: str) -> Caller:
    """Find a caller by its name or by one of its identities.

    Raises:
        typer.Exit: the settings have no such caller; standard error says so.
    """
    if not settings.authenticates_callers:
        trusts_anyone = settings.server.insecure_anyone_on_the_network_is_trusted
        everybody = ANYONE.caller if trusts_anyone else LOCAL_CALLER
        if name == everybody.caller_id:
            return everybody
        raise failure(
            f"--caller: no caller is {name}: {_ALL_ARE_ALIKE.format(everybody.caller_id)}"
        )
    callers = settings.registered_callers
    caller = callers.named(name) or callers.identified(name)
    if caller is None:
        names = [each.name for each in settings.callers]
        identities = [identity for each in settings.callers for identity in each.identities]
        raise failure(f"--caller: no caller is {name}{instead_of(name, [*names, *identities])}")
    return caller


def question_of(
    settings: Settings,
    method: str | None,
    tenant: str | None,
    operation: str | None,
    claims: Collection[str],
) -> Question:
    """Read the question about the caller from the options.

    Raises:
        typer.Exit: an option is missing or superfluous, or has an unknown value; standard error
            says which.
    """
    if method is None:
        raise failure("--caller needs --method")
    demands = DEMANDS[_existing("--method", method, DEMANDS)]
    if demands.every_tenant and tenant is not None:
        raise failure(f"--tenant: {method} is for all tenants, and needs a rule for *")
    _check_given("--tenant", tenant, demands.tenant, method)
    _check_given("--operation", operation, demands.operation, method)
    if claims and not demands.claims:
        raise failure(f"--claim: {method} has no actor, and so no claims")
    asserted = [
        Claim(_existing("--claim", claim, [each.value for each in Claim])) for claim in claims
    ]
    for claim in asserted:
        if claim.is_of_outsider:
            _check_outsider(claim, asserted, demands)
    return Question(
        method,
        tenant_id=None if tenant is None else _tenant_id(settings, tenant),
        operation=None
        if operation is None
        else OperationId(_existing("--operation", operation, settings.operations.ids)),
        # In the order in which the service demands them.
        claims=tuple(claim for claim in Claim if claim in asserted),
        required_method=demands.required_method,
        every_tenant=demands.every_tenant,
    )


def print_answer(caller: Caller, question: Question) -> bool:
    """Print which rules permit the call, or why none does; return whether the call is permitted."""
    answer = explain(caller, question)
    for line in (
        _refused(caller, answer)
        if isinstance(answer, Refusal)
        else _granted(caller, question, answer)
    ):
        typer.echo(line)
    return isinstance(answer, Grant)


def origin_of(caller: Caller, rule: Rule) -> str:
    """Where a rule is configured, and for which caller."""
    return f"{rule.origin} ({caller.caller_id})"


def _existing(option: str, value: str, known: Collection[str]) -> str:
    if value not in known:
        raise failure(f"{option}: unknown: {value}{instead_of(value, known)}")
    return value


def _check_given(option: str, value: str | None, demanded: bool, method: str) -> None:
    if demanded and value is None:
        raise failure(f"{method} needs {option}")
    if value is not None and not demanded:
        raise failure(f"{option}: {method} has none: leave the option out")


def _check_outsider(claim: Claim, asserted: Collection[Claim], demands: Demands) -> None:
    if claim not in demands.outsiders:
        accepting = [each.method for each in DEMANDS.values() if claim in each.outsiders]
        raise failure(
            f"--claim: {demands.method} does not accept {claim.value}; it is for"
            f" {', '.join(accepting)}"
        )
    if set(asserted) != {claim}:
        raise failure(f"--claim: {claim.value} excludes other claims: no person acts")


def _tenant_id(settings: Settings, tenant: str) -> TenantId:
    try:
        return TenantId(folded(tenant) if settings.identity.fold_case else tenant)
    except InvalidValueError as error:
        raise failure(f"--tenant: {error}") from error


def _granted(caller: Caller, question: Question, grant: Grant) -> Iterator[str]:
    yield "PERMITTED"
    yield f"  {question.method} by {origin_of(caller, grant.rule)}"
    if question.demanded_method is not None:
        rule = caller.rule_for(question.demanded_method, question.tenant_id, question.operation)
        assert rule is not None  # noqa: S101  # for mypy: it was demanded
        yield f"  {question.demanded_method} by {origin_of(caller, rule)}"
    for claim in question.claims:
        rule = grant.claims.get(claim)
        yield (
            f"  {claim.value} by {origin_of(caller, rule)}"
            if rule
            else f"  {claim.value} needs no rule: it has no effect on this call"
        )
    if caller in (LOCAL_CALLER, ANYONE.caller):
        yield f"  {_ALL_ARE_ALIKE.format(caller.caller_id)}"


def _refused(caller: Caller, refusal: Refusal) -> Iterator[str]:
    yield f"{to_status(refusal.error, '').reason}: {refusal.error}"
    for mismatch in refusal.mismatches:
        entries = ", ".join(_entries(mismatch.rule, mismatch.part)) or "none"
        yield f"  {origin_of(caller, mismatch.rule)}: its {mismatch.part.value} are {entries}"
    if not refusal.mismatches:
        yield f"  {caller.caller_id} has no rules"


def _entries(rule: Rule, part: RulePart) -> Collection[str]:
    match part:
        case RulePart.METHODS:
            return rule.methods.entries
        case RulePart.TENANTS:
            return rule.tenants.entries
        case RulePart.OPERATIONS:
            return rule.operations.entries
        case RulePart.CLAIMS:
            return [claim.value for claim in Claim if claim in rule.claims]
