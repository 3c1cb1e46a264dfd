"""Writes the outcome of each authenticator: as a table, or as JSON lines."""

from collections import Counter
from collections.abc import Sequence

from stepup.cli import output
from stepup.cli.ctl.people.sources import Row

_COLUMNS = ("line", "account", "issuer", "user", "outcome", "problem")


def write(rows: Sequence[Row], *, as_json: bool, dry_run: bool) -> None:
    """Write a line for each authenticator. No line has a secret (S11)."""
    if as_json:
        for row in rows:
            output.write_json(dict(zip(_COLUMNS, _cells(row), strict=True), dry_run=dry_run))
        return
    output.write_table(_COLUMNS, map(_cells, rows))
    counts = Counter(row.outcome for row in rows)
    summary = ", ".join(f"{outcome}: {number}" for outcome, number in sorted(counts.items()))
    output.write(f"{'dry run' if dry_run else 'import'}: {summary}")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.place, row.account, row.issuer, row.user_id, row.outcome, row.problem)
