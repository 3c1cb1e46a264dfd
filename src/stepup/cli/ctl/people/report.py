"""Writes the outcome of each authenticator: as a table, or as JSON lines."""

import json
from collections import Counter
from collections.abc import Sequence

import typer

from stepup.cli.ctl.people.sources import Row

_COLUMNS = ("line", "account", "issuer", "user", "outcome", "problem")


def write(rows: Sequence[Row], *, as_json: bool, dry_run: bool) -> None:
    """Write a line for each authenticator. No line has a secret (S11)."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(dict(zip(_COLUMNS, _cells(row), strict=True), dry_run=dry_run)))
        return
    table = [_COLUMNS, *(tuple(map(_shown, _cells(row))) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        typer.echo("  ".join(padded).rstrip())
    counts = Counter(row.outcome for row in rows)
    summary = ", ".join(f"{outcome}: {number}" for outcome, number in sorted(counts.items()))
    typer.echo(f"{'dry run' if dry_run else 'import'}: {summary}")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.place, row.account, row.issuer, row.user_id, row.outcome, row.problem)


def _shown(text: str) -> str:
    """Replace the characters of a label that a terminal would not print but obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
