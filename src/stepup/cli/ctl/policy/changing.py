"""Changes the policy of a business: shows the difference, and lets the server decide."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import typer

from stepup.cli import output
from stepup.cli.ctl.messages import NONE
from stepup.cli.ctl.operating import Operating
from stepup.cli.ctl.policy.showing import (
    NOT_SELECTED,
    demand_shown,
    document_of,
    stored_policy,
)
from stepup.cli.ctl.problems import REFUSED, ROLE_ADVICE
from stepup.cli.times import shown
from stepup.client.messages import policy as messages
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy, PolicyChange
from stepup.rpc.wire import encode
from stepup.system.near_names import instead_of


@dataclass(frozen=True, slots=True)
class Difference:
    """A field or an operation of a policy, before and after a change, in words."""

    field: str
    before: str
    after: str


def change_policy(
    work: Operating, make: Callable[[Policy], PolicyChange], *, dry_run: bool, yes: bool
) -> None:
    """Show the difference, and make the change unless it is a dry run.

    Args:
        work: the connection, and the operator.
        make: the wanted values for the policy that is stored now. An etag makes the change
            conditional: it must be that of the stored policy.
        dry_run: whether to send nothing.
        yes: whether the operator has consented.

    Raises:
        typer.Exit: the policy is not the version of the etag, or a dry run weakens it; status 1.
            The server's catalogue lacks an operation; status 2.
        StepUpError: the server refuses the change.
    """
    if not dry_run:
        _ = work.actor  # without one nothing is read
    before, answer = stored_policy(work)
    message = answer.policy
    change = make(before)
    if change.etag not in ("", message.etag):
        output.write_problem(
            f"stepup: the policy has changed: its etag is {message.etag}, and the file has"
            f" {change.etag}. Compare the file with `stepup ctl policy show`, and set its etag to"
            " that of the policy, or remove it."
        )
        raise typer.Exit(REFUSED)
    after = change.applied_to(before)
    _demand_known(work, after.max_ages.keys() - before.max_ages.keys())
    found, weakenings = differences(before, after), before.weakenings(after)
    if not work.as_json:
        _write_differences(work.tenant, found)
    for weakening in weakenings:
        output.write_problem(f"weaker: {weakening}")
    if dry_run and weakenings:
        output.write_problem(f"The server would refuse this change. {ROLE_ADVICE}")
    stored = message
    if found and not dry_run:
        output.demand_consent(f"Change the policy of {work.place}?", given=yes)
        stored = _update(work, after, message)
        if not work.as_json:
            output.write(f"changed; the etag is {stored.etag}")
    if work.as_json:
        wanted = encode.tenant_policy(after) if dry_run else stored
        output.write_json(
            {
                "changed": [each.field for each in found],
                "weakens": weakenings,
                "dry_run": dry_run,
                "before": document_of(message),
                "after": document_of(wanted) | {"etag": stored.etag},
            }
        )
    if dry_run and weakenings:
        raise typer.Exit(REFUSED)


def differences(before: Policy, after: Policy) -> list[Difference]:
    """The fields and operations that differ, in words."""
    fields = [
        Difference("enabled", _yes_or_no(before.enabled), _yes_or_no(after.enabled)),
        Difference("issuer", before.issuer or NONE, after.issuer or NONE),
        Difference("enroll_by", _instant(before.enroll_by), _instant(after.enroll_by)),
    ]
    operations = [
        Difference(name, _demand(before.max_ages, name), _demand(after.max_ages, name))
        for name in sorted({*before.max_ages, *after.max_ages})
    ]
    return [each for each in (*fields, *operations) if each.before != each.after]


def _demand_known(work: Operating, operations: Collection[OperationId]) -> None:
    """Look newly selected operations up in the server's catalogue."""
    if not operations:
        return
    categories = work.client.policy.list_operations().categories
    known = [operation.id for category in categories for operation in category.operations]
    for operation in sorted(set(operations) - {*known}):
        raise output.failure(
            f"the catalogue does not have {operation}{instead_of(operation, (), known, most=1)}"
        )


def _update(work: Operating, after: Policy, read: messages.Policy) -> messages.Policy:
    wanted = encode.tenant_policy(after)
    mask = [
        name
        for name in ("enabled", "operations", "issuer", "enroll_by")
        if getattr(wanted, name) != getattr(read, name)
    ]
    wanted.etag = read.etag
    return work.client.policy.update(work.actor, policy=wanted, update_mask=mask).policy


def _write_differences(tenant: str, found: list[Difference]) -> None:
    if not found:
        output.write(f"the policy of {tenant} has these values already")
        return
    rows = [(each.field, each.before, each.after) for each in found]
    output.write_table(("policy", "before", "after"), rows)


def _demand(max_ages: Mapping[OperationId, timedelta], operation: OperationId) -> str:
    return demand_shown(max_ages[operation]) if operation in max_ages else NOT_SELECTED


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _instant(instant: datetime | None) -> str:
    return shown(instant) if instant else NONE
