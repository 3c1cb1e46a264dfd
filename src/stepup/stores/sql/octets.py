"""SQL expressions for what is stored, to the byte; the two databases write each in their own way.

PostgreSQL sees to it that columns hold what their types say. SQLite does not.
"""

from typing import Any

from sqlalchemy import Boolean, Integer, LargeBinary, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from stepup.stores.sql.columns import Instant


class Octets(FunctionElement[bytes]):
    """A column's bytes: numbers in decimal, instants as SQLite keeps them."""

    name = "octets"
    type = LargeBinary()
    inherit_cache = True


class Types(FunctionElement[str]):
    """The types of the values of columns, in SQLite's words, with a blank between."""

    name = "types"
    type = String()
    inherit_cache = True


class TextOf(FunctionElement[str]):
    """The text that consists of some bytes."""

    name = "text_of"
    type = String()
    inherit_cache = True

    def __init__(self, octets: bytes) -> None:
        super().__init__(literal(octets, LargeBinary))


class IsNoText(FunctionElement[bool]):
    """Whether a text column holds something else; found by index, at the end of it."""

    name = "is_no_text"
    type = Boolean()
    inherit_cache = True


class RowPlace(FunctionElement[Any]):
    """Where the row of a column is in its table, which no index can gainsay."""

    name = "row_place"
    inherit_cache = True


@compiles(Octets, "sqlite")
def _(element: Octets, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BLOB)"


@compiles(Octets, "postgresql")
def _(element: Octets, compiler: SQLCompiler, **options: Any) -> str:
    [column] = element.clauses
    sql = compiler.process(column, **options)
    if isinstance(column.type, LargeBinary):
        return sql
    if isinstance(column.type, Instant):
        sql = f"to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return f"convert_to(CAST({sql} AS TEXT), 'UTF8')"


@compiles(Types, "sqlite")
def _(element: Types, compiler: SQLCompiler, **options: Any) -> str:
    types = (f"typeof({compiler.process(column, **options)})" for column in element.clauses)
    return " || ' ' || ".join(types)


@compiles(Types, "postgresql")
def _(element: Types, compiler: SQLCompiler, **options: Any) -> str:
    types = (
        f"CASE WHEN {compiler.process(column, **options)} IS NULL THEN 'null' "
        f"ELSE '{_named(column.type)}' END"
        for column in element.clauses
    )
    return " || ' ' || ".join(types)


def _named(kind: Any) -> str:
    if isinstance(kind, LargeBinary):
        return "blob"
    return "integer" if isinstance(kind, Integer) else "text"


@compiles(TextOf, "sqlite")
def _(element: TextOf, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS TEXT)"


@compiles(TextOf, "postgresql")
def _(element: TextOf, compiler: SQLCompiler, **options: Any) -> str:
    return f"convert_from({compiler.process(element.clauses, **options)}, 'UTF8')"


@compiles(IsNoText, "sqlite")
def _(element: IsNoText, compiler: SQLCompiler, **options: Any) -> str:
    # Whatever its bytes are, a blob comes after every text.
    return f"({compiler.process(element.clauses, **options)} >= x'')"


@compiles(IsNoText, "postgresql")
def _(element: IsNoText, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ARG001
    return "false"


@compiles(RowPlace, "sqlite")
def _(element: RowPlace, compiler: SQLCompiler, **options: Any) -> str:
    return f"{_table(element, compiler, options)}.rowid"


@compiles(RowPlace, "postgresql")
def _(element: RowPlace, compiler: SQLCompiler, **options: Any) -> str:
    return f"{_table(element, compiler, options)}.ctid"


def _table(element: RowPlace, compiler: SQLCompiler, options: dict[str, Any]) -> str:
    [column] = element.clauses
    return compiler.process(column.table, **{**options, "asfrom": True})
