"""What commands write for people and for programs. No text of a person controls the terminal (S11).

On a terminal tables have bold heads and fit its width; a pipe or a file gets plain columns.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import islice
from stat import S_ISFIFO
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

_ROWS_AT_ONCE: Final = 100
_QUIET_SECONDS: Final = 1
_REFRESH_SECONDS: Final = 0.2
_Item = TypeVar("_Item")


class ExportFormat(Enum):
    """The form of an exported record: as stepup keeps it, or as OCSF demands."""

    JSONL = "jsonl"
    OCSF = "ocsf"


def plain(value: object) -> str:
    """The text of a value, with an escape in place of each character that a terminal may obey.

    Such characters are control and format characters (so also changes of direction), line
    separators, halves of surrogate pairs, and characters that Unicode does not assign.
    """
    return "".join(
        character
        if character.isprintable() or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode("ascii")
        for character in str(value)
    )


def write(text: object = "") -> None:
    """Write a line to standard output, as `plain` text."""
    typer.echo(plain(text))


def write_problem(text: object) -> None:
    """Write a line to standard error, as `plain` text."""
    typer.echo(plain(text), err=True)


def write_json(value: Mapping[str, object]) -> None:
    """Write an object as one line of JSON, in ASCII."""
    typer.echo(json.dumps(value))


def write_wrapped(text: object) -> None:
    """As `write`; but on a terminal a text that is too wide breaks at spaces only.

    Its further lines are indented.
    """
    if not is_terminal():
        write(text)
        return
    from stepup.cli.tables import wrapped_below  # noqa: PLC0415  # only people need it

    for line in wrapped_below(plain(text), _console().width):
        typer.echo(line)


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = ""
) -> None:
    """Write rows below the names of their columns, each cell as `plain` text.

    A long table is written as its rows come, in parts: on a terminal each part has the names of the
    columns, elsewhere only the first has them.

    Args:
        columns: the names of the columns.
        rows: the cells of each row.
        empty: the sentence in place of a table without rows. A table that always has rows needs
            none.
    """
    cells = (tuple(map(plain, row)) for row in rows)
    columns = tuple(map(plain, columns))
    head = [columns]
    widths = [len(column) for column in columns]
    part = list(islice(cells, _ROWS_AT_ONCE))
    if empty and not part:
        write_wrapped(empty)
        return
    while head or part:
        if is_terminal():
            _write_for_terminal(columns, part)
        else:
            columns_of_part = zip(widths, *(map(len, row) for row in part), strict=True)
            widths = [max(lengths) for lengths in columns_of_part]
            _write_columns([*head, *part], widths)
        head = []
        part = list(islice(cells, _ROWS_AT_ONCE))


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 prompt`, `1,200 prompts`. `many` is the plural, unless in s."""
    return f"1 {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def counted_people(number: int) -> str:
    """How many people: `1 person`, `1,200 people`."""
    return counted(number, "person", "people")


def _write_for_terminal(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from stepup.cli.tables import lay_out  # noqa: PLC0415  # only people need it

    console = _console()
    head, lines = lay_out(columns, rows, console.width)
    console.print(head, style="bold", soft_wrap=True)
    if lines:
        console.print("\n".join(lines), soft_wrap=True)


def _console() -> "Console":
    from rich.console import Console  # noqa: PLC0415  # only people need it

    return Console(highlight=False, markup=False, emoji=False)


def _write_columns(rows: Iterable[Sequence[str]], widths: Sequence[int]) -> None:
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(padded).rstrip())


@contextmanager
def tracked(items: Sequence[_Item], title: str = "Working") -> Iterator[Iterator[_Item]]:
    """Give the block an iterator of the items, and show how many of them it has worked on.

    See `progress_shown`.
    """
    done = 0

    def each() -> Iterator[_Item]:
        nonlocal done
        for item in items:
            yield item
            done += 1

    with progress_shown(title, lambda: done / len(items)):
        yield each()


@contextmanager
def progress_shown(title: str, done: Callable[[], float | None]) -> Iterator[None]:
    """Show a bar on standard error from the second on that the block lasts. Write nothing there.

    Without a terminal nothing is shown; nor if standard output is a pipe, whose reader, such as
    `less`, may use the terminal.

    Args:
        title: the work.
        done: returns the part that is done, from 0 to 1, or None if it is not known. Another thread
            calls it.
    """
    if not sys.stderr.isatty() or _is_piped():
        yield
        return
    stop = Event()
    thread = Thread(target=_show_progress, args=(title, done, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _show_progress(title: str, done: Callable[[], float | None], stop: Event) -> None:
    if stop.wait(_QUIET_SECONDS):
        return
    from rich.console import Console  # noqa: PLC0415  # only people need it
    from rich.progress import Progress  # noqa: PLC0415  # as above

    with Progress(
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(title, total=None)
        while True:
            part = done()
            progress.update(task, total=None if part is None else 1, completed=part or 0)
            if stop.wait(_REFRESH_SECONDS):
                return


def _is_piped() -> bool:
    try:
        return S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):  # closed, or not a file
        return False


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def is_attended() -> bool:
    """Whether a person can be asked: standard input and standard error are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def demand_consent(question: str, *, given: bool) -> None:
    """Ask the person at the terminal for consent, unless `--yes` has given it.

    Raises:
        typer.Exit: there is no terminal; status 2.
        typer.Abort: the person does not consent; status 1.
    """
    if given:
        return
    if not is_attended():
        raise failure(f"{question} Give --yes, since there is no terminal to ask.")
    typer.confirm(plain(question), abort=True, err=True)


def failure(error: Exception | str) -> typer.Exit:
    """Write a problem to standard error; return the exit of a command that failed: status 2.

    Each line is `plain` text.
    """
    with suppress(OSError):  # standard error may be closed; the exit status remains
        typer.echo("\n".join(map(plain, f"stepup: {error}".split("\n"))), err=True)
    return typer.Exit(2)
