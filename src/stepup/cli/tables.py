"""The layout of a table on a terminal: no name, id or time breaks inside."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from rich.cells import cell_len

_GAP: Final = "  "
_INDENT: Final = "    "
_MOST_LINES: Final = 3
_NO_VALUES: Final = ("", "-")


def lay_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> tuple[str, list[str]]:
    """Lay out a table: its head, and the lines of its rows.

    If the table is too wide, its last column wraps at spaces where it is, onto at most three lines.
    If that does not suffice, the columns at the end that do not fit come below their row: indented,
    each value with the name of its column, without empty values, and wrapped at spaces. A word that
    is longer than the terminal stays whole.

    Args:
        columns: the names of the columns, at least one.
        rows: as many cells each, which are `plain` texts.
        width: of the terminal, in cells.
    """
    widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
    ends = list(accumulate(widths, lambda end, cells: end + len(_GAP) + cells))
    fitting = max(1, sum(end <= width for end in ends))
    lines: list[str] = []
    if fitting == len(columns) - 1 and (
        lasts := _wrapped_last(columns, rows, width - ends[-2] - len(_GAP))
    ):
        margin = " " * (ends[-2] + len(_GAP))
        for row, (first, *more) in zip(rows, lasts, strict=True):
            lines += [_joined((*row[:-1], first), widths), *(margin + line for line in more)]
        return _joined(columns, widths), lines
    for row in rows:
        lines += [_joined(row[:fitting], widths), *_below(columns, row, fitting, width)]
    return _joined(columns[:fitting], widths), lines


def wrapped(text: str, width: int) -> list[str]:
    """Break a text at spaces into lines of at most `width` cells; a longer word is a line."""
    lines = [""]
    for word in text.split(" "):
        line = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(line) > width:
            lines.append(word)
        else:
            lines[-1] = line
    return [line.rstrip() for line in lines]


def wrapped_below(text: str, width: int) -> list[str]:
    """As `wrapped`; a text that takes several lines has an indentation in all but the first."""
    if cell_len(text) <= width:
        return [text]
    margin = " " * (len(text) - len(text.lstrip(" ")))
    first, *more = wrapped(text.lstrip(" "), width - len(margin) - len(_INDENT))
    return [margin + first, *(margin + _INDENT + line for line in more)]


def _wrapped_last(
    columns: Sequence[str], rows: Iterable[Sequence[str]], room: int
) -> list[list[str]]:
    """The lines of the last cell of each row; none if they do not fit into the room."""
    lasts = [wrapped(row[-1], room) for row in rows]
    fits = all(
        len(lines) <= _MOST_LINES and all(cell_len(line) <= room for line in lines)
        for lines in (*lasts, [columns[-1]])
    )
    return lasts if fits else []


def _below(columns: Sequence[str], row: Sequence[str], fitting: int, width: int) -> Iterator[str]:
    line = ""
    for column, cell in zip(columns[fitting:], row[fitting:], strict=True):
        if cell in _NO_VALUES:
            continue
        named = f"{column}: {cell}"
        if line and cell_len(_INDENT + line + _GAP + named) > width:
            yield from _indented(line, width)
            line = ""
        line = f"{line}{_GAP}{named}" if line else named
    if line:
        yield from _indented(line, width)


def _indented(text: str, width: int) -> Iterator[str]:
    return (_INDENT + line for line in wrapped(text, width - len(_INDENT)))


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths))  # noqa: B905  # only the first columns
    return _GAP.join(padded).rstrip()
