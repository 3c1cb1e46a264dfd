"""`stepup ctl policy`: what a business demands, and changes that an operator may make."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import typer

from stepup.cli import output, times
from stepup.cli.completion import complete_operation
from stepup.cli.ctl.operating import Operating, operating
from stepup.cli.output import failure
from stepup.cli.policy_files import PolicyFileError, operation_ids, read_policy, selecting
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import OperationId
from stepup.domain.policy import EVERY_TIME, Policy, PolicyChange, checked_max_age
from stepup.domain.totp import Label

app = typer.Typer(
    help="The policy of a business. Changes show the difference first, and ask.",
    no_args_is_help=True,
)
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the difference; send nothing.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
_Operations = Annotated[
    list[str],
    typer.Argument(
        metavar="OPERATION...",
        autocompletion=complete_operation,
        help="Ids of the catalogue.",
    ),
]


@app.command()
@operating
def show(work: Operating) -> None:
    """Show the policy. With --json, in the form that `set` takes."""
    from stepup.cli.ctl.messages import NONE, instant_shown  # noqa: PLC0415  # a help needs no client
    from stepup.cli.ctl.policy import showing  # noqa: PLC0415  # as above

    policy, answer = showing.stored_policy(work)
    if work.as_json:
        output.write_json(showing.document_of(answer.policy))
        return
    output.write_table(
        ("policy", work.tenant),
        [
            ("enabled", "yes" if policy.enabled else "no"),
            ("issuer", policy.issuer or NONE),
            ("enroll_by", instant_shown(answer.policy.enroll_by)),
            ("people_in_grace", answer.people_in_grace),
            ("update_time", instant_shown(answer.policy.update_time)),
            ("etag", answer.policy.etag),
        ],
    )
    output.write()
    rows = [(name, showing.demand_shown(max_age)) for name, max_age in policy.max_ages.items()]
    empty = "the policy selects no operation"
    output.write_table(("selected operation", "demands"), rows, empty=empty)


@app.command()
@operating
def enable(work: Operating, *, dry_run: _DryRun = False, yes: _Yes = False) -> None:
    """Turn MFA on for the business: at sign-in, and for the selected operations."""
    _change(work, lambda _: PolicyChange("", enabled=True), dry_run=dry_run, yes=yes)


@app.command()
@operating
def disable(work: Operating, *, dry_run: _DryRun = False, yes: _Yes = False) -> None:
    """Turn MFA off. Only a Master Administrator may, so the server refuses an operator."""
    _change(work, lambda _: PolicyChange("", enabled=False), dry_run=dry_run, yes=yes)


@app.command()
@operating
def select(
    work: Operating,
    operations: _Operations,
    *,
    max_age: Annotated[
        str | None,
        typer.Option(
            help="The maximum age of a code: 30s to 15m. Default for a new operation: 15m."
        ),
    ] = None,
    every_time: Annotated[
        bool,
        typer.Option(
            "--every-time", help="Each action needs an approval of its own, by a challenge."
        ),
    ] = False,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Select operations: they then need a code.

    Without --max-age and --every-time an operation that is selected already keeps its demand.
    """
    demand = _demand_of(max_age, every_time=every_time)
    wanted = _operation_ids(operations)
    _change(work, lambda policy: selecting(policy, wanted, demand), dry_run=dry_run, yes=yes)


@app.command()
@operating
def deselect(
    work: Operating, operations: _Operations, *, dry_run: _DryRun = False, yes: _Yes = False
) -> None:
    """Deselect operations. Only a Master Administrator may, so the server refuses an operator."""
    unwanted = _operation_ids(operations)

    def change(policy: Policy) -> PolicyChange:
        kept = {name: age for name, age in policy.max_ages.items() if name not in unwanted}
        return PolicyChange("", max_ages=kept)

    _change(work, change, dry_run=dry_run, yes=yes)


@app.command("set")
@operating
def set_(
    work: Operating,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON or YAML; - for standard input.")
    ],
    *,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Set the fields that a file has; its operations replace all that are selected.

    A file with an etag counts only for that version of the policy.
    """
    try:
        wanted = read_policy(file)
    except PolicyFileError as error:
        raise failure(error) from error
    if wanted.tenant_id not in (None, work.tenant):
        raise failure(f"{file} has the tenant_id {wanted.tenant_id}, and --tenant is another")
    _change(work, lambda _: wanted.change, dry_run=dry_run, yes=yes)


@app.command()
@operating
def set_issuer(
    work: Operating,
    issuer: Annotated[str, typer.Argument(help='The name in authenticator apps; "" removes it.')],
    *,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Set the name that authenticator apps show for the business."""
    try:
        label: Label | Literal[""] = Label(issuer) if issuer else ""
    except InvalidValueError as error:
        raise failure(f"ISSUER {error}") from error
    _change(work, lambda _: PolicyChange("", issuer=label), dry_run=dry_run, yes=yes)


@app.command()
@operating
def set_enroll_by(
    work: Operating,
    when: Annotated[
        str,
        typer.Argument(
            metavar="WHEN", help="2026-03-01T10:00:00Z, how long from now (7d), or never."
        ),
    ],
    *,
    dry_run: _DryRun = False,
    yes: _Yes = False,
) -> None:
    """Give people who never had an authenticator time to enrol, or end it with never."""
    enroll_by = _enroll_by(when)
    _change(work, lambda _: PolicyChange("", enroll_by=enroll_by), dry_run=dry_run, yes=yes)


def _change(
    work: Operating, make: Callable[[Policy], PolicyChange], *, dry_run: bool, yes: bool
) -> None:
    from stepup.cli.ctl.policy.changing import change_policy  # noqa: PLC0415  # as above

    change_policy(work, make, dry_run=dry_run, yes=yes)


def _enroll_by(when: str) -> datetime | Literal[""]:
    if when == "never":
        return ""
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        return now + times.duration_of(when)
    except OverflowError as error:
        raise failure(f"WHEN must be a shorter duration than {when!r}") from error
    except times.TimeTextError:
        pass
    if times.TIME_OF_DAY.fullmatch(when.strip()):  # it would be one that has passed
        raise failure("WHEN must have a date: give 2026-03-01T10:00:00Z or 7d")
    try:
        return times.instant_of(when, now)
    except times.TimeTextError as error:
        raise failure(f"WHEN {error}") from error


def _operation_ids(names: list[str]) -> list[OperationId]:
    try:
        return operation_ids("OPERATION", names)
    except PolicyFileError as error:
        raise failure(error) from error


def _demand_of(max_age: str | None, *, every_time: bool) -> timedelta | None:
    """The wanted `max_age`; None if the options do not say."""
    if max_age is None:
        return EVERY_TIME if every_time else None
    if every_time:
        raise failure("--max-age and --every-time exclude each other")
    try:
        return checked_max_age(times.duration_of(max_age))
    except (ValueError, InvalidValueError) as error:
        raise failure(f"--max-age {error}") from error
