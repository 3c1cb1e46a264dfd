"""`stepup policy simulate`: recorded checks under another policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from stepup.cli import output
from stepup.cli.decisions.options import logs_read
from stepup.cli.decisions.reading import Selection, several_tenants
from stepup.cli.decisions.sources import LogsError
from stepup.cli.output import counted, counted_people
from stepup.cli.policy.comparison import KINDS, Comparison
from stepup.cli.policy.picture import picture_of
from stepup.cli.policy.recorded import COLUMNS, RecordedPeople
from stepup.cli.policy_files import (
    STDIN,
    PolicyFile,
    PolicyFileError,
    operation_ids,
    read_policy,
    selecting,
    warn_of_unknown_operations,
)
from stepup.cli.times import shown
from stepup.domain.actor import TenantId
from stepup.domain.operations import OperationId
from stepup.domain.policy import Policy

ASSUMED: Final = (
    "Assumed: people do at once what an answer demands, give codes for no other reason, and do not"
    " sign out; callers present the claims, receipts and challenges that are recorded."
)
_TENANTS: Final = """
    SELECT tenant_id, count(DISTINCT user_id) AS people,
        min(decided_at) AS since, max(decided_at) AS until
    FROM decisions GROUP BY tenant_id ORDER BY tenant_id
"""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What happens to the recorded calls of a tenant under the policy of the file `after`.

    That policy selects the operations of `select` as well. `before` is the file of the policy to
    compare with; None for the recorded answers. `since` and `until` are the times of the first and
    the last decision. `skipped` counts the decisions that this release does not understand.
    """

    tenant_id: TenantId
    before: str | None
    after: str
    select: Sequence[OperationId]
    since: datetime
    until: datetime
    comparison: Comparison
    skipped: int

    def as_json(self) -> dict[str, object]:
        """The simulation with the names of its fields."""
        return {
            "tenant_id": self.tenant_id,
            "before": self.before,
            "after": self.after,
            "select": list(self.select),
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "skipped": self.skipped,
            **self.comparison.as_json(),
        }

    def picture(self) -> str:
        """The simulation as an SVG.

        Raises:
            ChartError: the extra is not installed.
        """
        title = f"Prompts in {self.tenant_id} under {self._after}"
        return picture_of(self.comparison, title, self._summary())

    def write(self) -> None:
        """Write the simulation as text and a table, for people."""
        comparison = self.comparison
        output.write_wrapped(self._summary())
        for kind in ("added", "removed"):
            prompts, people = comparison.total.prompts(kind), comparison.total.prompted(kind)
            output.write(f"{kind}: {counted(prompts, 'prompt')}, for {counted_people(people)}")
        output.write(f"to enrol: {counted_people(comparison.people_to_enrol)}")
        if comparison.people_in_grace:
            output.write(f"allowed until enroll_by: {counted_people(comparison.people_in_grace)}")
        output.write()
        prompted = comparison.prompted()
        if prompted:
            output.write("Prompts of each operation; people: those with an added one")
        output.write_table(
            ("operation", "calls", *KINDS, "people"),
            [
                (operation, tally.calls, *map(tally.prompts, KINDS), tally.prompted("added"))
                for operation, tally in prompted
            ],
            empty="no operation has a prompt, before or after",
        )
        if prompted and (left_out := len(comparison.operations) - len(prompted)):
            output.write(
                f"{counted(left_out, 'more operation')} without a prompt, before and after"
            )
        if self.skipped:
            output.write_wrapped(
                "left out, since this release does not know them:"
                f" {counted(self.skipped, 'decision')}"
            )
        output.write()
        output.write_wrapped(ASSUMED)

    def _summary(self) -> str:
        total = self.comparison.total
        before = "recorded" if self.before is None else f"under {self._name(self.before)}"
        return (
            f"{shown(self.since)} to {shown(self.until)}: {counted(total.calls, 'call')} for"
            f" {counted_people(total.people)};"
            f" {counted(total.prompts('before'), 'prompt')} {before},"
            f" {total.prompts('after'):,} under {self._after}"
        )

    @property
    def _after(self) -> str:
        more = f" with {counted(len(self.select), 'more operation')}" if self.select else ""
        return self._name(self.after) + more

    @staticmethod
    def _name(file: str) -> str:
        return "standard input" if file == STDIN else output.plain(Path(file).name)


def simulate_policy(
    after: str,
    select: Sequence[str],
    before: str | None,
    sources: Sequence[str],
    selection: Selection,
) -> Simulation:
    """Decide the selected decisions again.

    Args:
        after: the file of the policy.
        select: operations that the policy selects as well.
        before: the file of the policy to compare with; None for the recorded answers.
        sources: the decision logs, as for `decisions_of`.
        selection: which decisions. Without a tenant the policy names it, or the logs have only one.

    Raises:
        PolicyFileError: a file is not a whole policy of the tenant, or an operation is unknown.
        typer.Exit: the logs cannot be read, or have no decision or those of several tenants;
            standard error says so.
    """
    if [after, before, *sources].count(STDIN) > 1:
        raise PolicyFileError("give - only once: standard input can be read once")
    more = operation_ids("--select", select)
    files = [(each, read_policy(each)) for each in (after, before) if each is not None]
    if selection.tenant_id is None:
        named = next((file.tenant_id for _, file in files if file.tenant_id), None)
        selection = replace(selection, tenant_id=named)
    with logs_read(sources, selection, COLUMNS) as decisions:
        tenants = list(decisions.rows(_TENANTS))
        if len(tenants) != 1:
            raise _problem_of([each["tenant_id"] for each in tenants], selection)
        [recorded] = tenants
        tenant_id = TenantId(recorded["tenant_id"])
        policies = [_whole(name, file, tenant_id) for name, file in files]
        wanted = selecting(policies[0], more).applied_to(policies[0])
        people = RecordedPeople(decisions)
        with output.progress_shown("Deciding again", lambda: people.read / recorded["people"]):
            comparison = Comparison.of(people, policies[1] if before is not None else None, wanted)
        without_calls = (each for each, tally in comparison.ranked() if not tally.calls)
        warn_of_unknown_operations(without_calls)
        return Simulation(
            tenant_id,
            before,
            after,
            more,
            recorded["since"],
            recorded["until"],
            comparison,
            people.skipped,
        )


def _whole(name: str, file: PolicyFile, tenant_id: TenantId) -> Policy:
    try:
        return file.whole_policy(tenant_id)
    except PolicyFileError as error:
        raise PolicyFileError(f"{name}: {error}") from error


def _problem_of(tenants: Sequence[str], selection: Selection) -> LogsError:
    """Why decisions of these tenants cannot be simulated."""
    if tenants:
        return several_tenants(tenants)
    of = "" if selection.tenant_id is None else f" of {selection.tenant_id}"
    return LogsError(f"the logs have no decision{of} in this time")
