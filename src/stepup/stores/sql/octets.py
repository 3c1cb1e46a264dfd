"""SQL expressions for stored bytes, which the two databases write in their own ways.

PostgreSQL guarantees that columns hold what their types say. SQLite does not.
"""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    LargeBinary,
    String,
    Table,
    case,
    cast,
    false,
    func,
    literal,
    literal_column,
)

from stepup.stores.sql.columns import Instant


class Octets:
    """Makes the expressions for one of the two databases."""

    def __init__(self, *, is_sqlite: bool) -> None:
        self._is_sqlite = is_sqlite

    def of(self, column: ColumnElement[Any]) -> ColumnElement[bytes]:
        """A column's bytes: numbers in decimal, instants as SQLite keeps them."""
        if self._is_sqlite:
            return cast(column, LargeBinary)
        if isinstance(column.type, LargeBinary):
            return column
        if isinstance(column.type, Instant):
            column = func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24:MI:SS.US")
        return func.convert_to(cast(column, String), "UTF8", type_=LargeBinary)

    def types(self, columns: Iterable[ColumnElement[Any]]) -> ColumnElement[str]:
        """The types of the values of columns, in SQLite's words, with a blank between."""
        types: list[ColumnElement[str]] = []
        for column in columns:
            if types:
                types.append(literal(" ", String))
            types.append(
                func.typeof(column, type_=String)
                if self._is_sqlite
                else case((column.is_(None), "null"), else_=_named(column.type))
            )
        return reduce(add, types)

    def text(self, octets: bytes) -> ColumnElement[str]:
        """The text that consists of some bytes."""
        value = literal(octets, LargeBinary)
        return cast(value, String) if self._is_sqlite else func.convert_from(value, "UTF8")

    def is_no_text(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a text column holds something else; an index finds such rows at its end."""
        # A blob comes after every text, with any bytes.
        return column >= literal_column("x''") if self._is_sqlite else false()

    def row_place(self, table: Table) -> ColumnElement[Any]:
        """Where a row is in its table, which no index can contradict."""
        return literal_column(f"{table.name}.{'rowid' if self._is_sqlite else 'ctid'}")


def _named(kind: Any) -> str:
    if isinstance(kind, LargeBinary):
        return "blob"
    return "integer" if isinstance(kind, Integer) else "text"
