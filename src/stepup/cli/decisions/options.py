"""What the commands that read decision logs share: options, and how they report broken lines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from stepup.cli.decisions.reading import COLUMNS, Decisions, Selection, decisions_of
from stepup.cli.decisions.sources import LogsError
from stepup.cli.output import failure, write_problem
from stepup.cli.times import FORMS

_LOGS_VARIABLE: Final = "STEPUP_DECISION_LOGS"


def _demand_files(files: list[str]) -> list[str]:
    if not files:
        raise typer.BadParameter(f"give the decision logs, or name them in {_LOGS_VARIABLE}")
    return files


Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        envvar=_LOGS_VARIABLE,
        default_factory=list,
        show_default=False,
        callback=_demand_files,
        help="The decision logs of all servers: files, also .gz, patterns such as 'logs/*.jsonl',"
        " or - for standard input.",
    ),
]
Logs = Annotated[
    list[str],
    typer.Option(
        "--decisions",
        metavar="FILE",
        envvar=_LOGS_VARIABLE,
        help="A decision log, also .gz; a pattern such as 'logs/*.jsonl'; or -. Repeatable.",
    ),
]
Since = Annotated[str | None, typer.Option(help=f"The first instant: {FORMS}.")]
Until = Annotated[str | None, typer.Option(help="The end, not included; in the same forms.")]
Tenant = Annotated[str | None, typer.Option(help="Only decisions of this business.")]
User = Annotated[str | None, typer.Option(help="Only decisions about this person.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


@contextmanager
def logs_read(
    sources: Sequence[str], selection: Selection, columns: Sequence[str] = tuple(COLUMNS)
) -> Iterator[Decisions]:
    """Read decision logs as `decisions_of`.

    Standard error says which files have broken lines, and how many lines are copies of others.

    Raises:
        typer.Exit: the logs cannot be read; status 2.
    """
    try:
        with decisions_of(sources, selection, columns) as decisions:
            for file, number in decisions.broken.items():
                lines = "1 line is" if number == 1 else f"{number} lines are"
                write_problem(f"{file}: {lines} not a decision, and left out")
            if decisions.copies:
                write_problem(
                    f"{decisions.copies} of the lines are copies of other lines, and left out"
                )
            yield decisions
    except LogsError as error:
        raise failure(error) from error
