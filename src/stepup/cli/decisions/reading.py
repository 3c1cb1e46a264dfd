"""Decision logs of all servers as one table of duckdb, an SQL engine (extra `analysis`)."""

import glob
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stepup.cli.decisions.sources import LogsError, files_of, private_directory, seekable
from stepup.cli.output import progress_shown
from stepup.system.distribution import missing_extra

if TYPE_CHECKING:
    import duckdb

_INSTANT: Final = "TIMESTAMP"
COLUMNS: Final = {
    "decision_id": "VARCHAR",
    "decided_at": _INSTANT,
    "caller": "VARCHAR",
    "request_id": "VARCHAR",
    "identities": "VARCHAR[]",
    "tenant_id": "VARCHAR",
    "user_id": "VARCHAR",
    "session": "VARCHAR",
    "account_type": "VARCHAR",
    "role": "VARCHAR",
    "team": "VARCHAR",
    "playbook_run": "STRUCT(playbook_id VARCHAR, run_id VARCHAR, trigger VARCHAR)",
    "operation": "VARCHAR",
    "target": "VARCHAR",
    "decision": "VARCHAR",
    "reason": "VARCHAR",
    "policy_etag": "VARCHAR",
    "granted_by": "VARCHAR",
    "claims": "MAP(VARCHAR, VARCHAR)",
    "detail": "VARCHAR",
    "elevated_at": _INSTANT,
    "approved_at": _INSTANT,
    "enrollment_id": "VARCHAR",
    "enroll_by": _INSTANT,
    "challenge_id": "VARCHAR",
    "challenge_rejection": "VARCHAR",
    "challenge_stranger": "VARCHAR",
    "retry_of": "VARCHAR",
    "first_authorised_at": _INSTANT,
    "repeated": "BOOLEAN",
    "receipt_rejection": "VARCHAR",
    "receipt_of": "VARCHAR",
}
"""The keys of a line and their types in duckdb; docs/auditing.md describes them. Instants are in
UTC. A key that a line does not have, and a value of another type, are NULL."""
LINE: Final = "line"
"""A further column: the line as text, with keys that COLUMNS does not have."""
IN_EVERY_LINE: Final = (
    *("decision_id", "decided_at", "caller", "tenant_id", "user_id"),
    *("operation", "decision", "reason"),
)
"""The keys without which a line is not a decision."""
CALL: Final = ("decided_at", "request_id", "caller", "tenant_id", "user_id", "session")
"""What the checks of one call have in common. The caller chooses `request_id`: a program that sends
one id with many calls still makes many calls."""
_CONDITIONS: Final = (
    ("since", "decided_at >= $since"),
    ("until", "decided_at < $until"),
    ("tenant_id", "tenant_id = $tenant_id"),
    ("user_id", "user_id = $user_id"),
)
_HASH: Final = "hash(json::VARCHAR)"
# An instant out of this range, such as `infinity`, is not that of a decision.
_EARLIEST: Final = "TIMESTAMPTZ '1970-01-01'"
_LATEST: Final = "TIMESTAMPTZ '9998-01-01'"
_MOST_NAMED: Final = 3
_ROWS_AT_ONCE: Final = 2000
_MEMORY: Final = "1GB"


def several_tenants(names: Sequence[str]) -> LogsError:
    """The error of a question about one business, where the decisions are of these."""
    shown = ", ".join(names[:_MOST_NAMED])
    return LogsError(
        f"the decisions are of {len(names)} businesses, such as {shown}; give --tenant"
    )


@dataclass(frozen=True)
class Selection:
    """Which decisions to read: from `since` on and before `until`, of one tenant, of one user.

    None means no limit.
    """

    since: datetime | None = None
    until: datetime | None = None
    tenant_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Decisions:
    """The decisions that were read, as the table `decisions`.

    `broken` has the number of lines in each file that are not decisions, such as those that a full
    disk left incomplete. `copies` is the number of lines that were left out, because the same text
    was read before.
    """

    files: tuple[str, ...]
    broken: dict[str, int]
    copies: int
    _connection: "duckdb.DuckDBPyConnection"

    def rows(self, query: str, *parameters: Any, **named: Any) -> Iterator[dict[str, Any]]:
        """Run a query in SQL; yield its rows by the names of their columns.

        The rows are never all in memory. Instants have the time zone UTC.

        Args:
            query: one statement.
            parameters: the values of `?` in the query.
            named: or else the values of `$name`.

        Raises:
            LogsError: the query cannot run, for example because the disk of temporary files is
                full.
        """
        with _problems_named():
            values = {name: _naive(value) for name, value in named.items()} or parameters
            cursor = self._connection.cursor().execute(query, values)
            names = [each[0] for each in cursor.description or ()]
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                for row in rows:
                    yield dict(zip(names, map(_aware, row), strict=True))

    def tenant_ids(self) -> list[str]:
        """The businesses whose decisions these are, in order; raises as `rows`."""
        query = "SELECT DISTINCT tenant_id FROM decisions ORDER BY tenant_id"
        return [row["tenant_id"] for row in self.rows(query)]

    def in_order(self) -> Iterator[dict[str, Any]]:
        """Yield all decisions in the order of `decided_at`; raises as `rows`."""
        return self.rows("SELECT * FROM decisions ORDER BY decided_at, decision_id")


@contextmanager
def decisions_of(
    sources: Sequence[str],
    selection: Selection = Selection(),
    columns: Sequence[str] = tuple(COLUMNS),
) -> Iterator[Decisions]:
    """Read decision logs once, and let the block ask questions about them.

    The selected columns are in a temporary directory that only this user can read, until the block
    ends or the process is killed. Ten million decisions need about 1 GB there, and not more than
    1 GB of memory. A pipe is copied there first.

    Args:
        sources: files, also compressed (`.gz`), patterns such as `logs/*.jsonl`, or `-` for
            standard input. A file that several patterns match is read once, and a line that is in
            several files, such as a log and its compressed copy, counts once.
        selection: which decisions to read.
        columns: names of COLUMNS, and LINE; few columns need less time.

    Raises:
        LogsError: duckdb is not installed, a pattern matches no file, or a file cannot be read.
    """
    try:
        import duckdb  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise LogsError(
            f"a command that reads decision logs {missing_extra('analysis')}"
        ) from error
    named = files_of(sources)
    with private_directory() as directory:
        files = seekable(named, directory)
        connection = duckdb.connect(
            directory / "decisions.duckdb",
            config={
                "autoinstall_known_extensions": False,  # from the network
                "autoload_known_extensions": False,
                "memory_limit": _MEMORY,
                "preserve_insertion_order": False,
                "temp_directory": str(directory),
            },
        )
        try:
            with _problems_named():
                connection.execute("SET TimeZone = 'UTC'")  # of instants without an offset
                connection.execute("SET enable_progress_bar_print = false")
                connection.execute("SET enable_progress_bar = true")  # for query_progress()
                with progress_shown("Reading decisions", partial(_part_done, connection)):
                    broken = _load(connection, files, selection, columns)
                copies = _delete_copies(connection)
            yield Decisions(tuple(files.values()), broken, copies, connection)
        finally:
            connection.close()


def _load(
    connection: "duckdb.DuckDBPyConnection",
    files: Mapping[str, str],
    selection: Selection,
    columns: Sequence[str],
) -> dict[str, int]:
    """Fill the table `decisions`; return the number of broken lines in each file."""
    kept = [name for name in (*COLUMNS, LINE) if name in {*columns, *IN_EVERY_LINE}]
    instants = [name for name in kept if COLUMNS.get(name) == _INSTANT]
    # json_transform would ignore the offset of an instant.
    shape = {name: COLUMNS[name] for name in kept if name != LINE}
    shape |= dict.fromkeys(instants, "VARCHAR")
    in_utc = (
        f"CASE WHEN try_cast({name} AS TIMESTAMPTZ) BETWEEN {_EARLIEST} AND {_LATEST}"
        f" THEN {name}::TIMESTAMPTZ AT TIME ZONE 'UTC' END AS {name}"
        for name in instants
    )
    broken = " OR ".join(f"{name} IS NULL" for name in IN_EVERY_LINE)
    wanted = [condition for name, condition in _CONDITIONS if getattr(selection, name) is not None]
    values = {name: _naive(value) for name, value in asdict(selection).items() if value is not None}
    connection.execute(
        f"""
        CREATE TABLE lines AS
        SELECT {", ".join(kept)}, text_hash, CASE WHEN {broken} THEN file END AS broken_in
        FROM (
            SELECT * REPLACE ({", ".join(in_utc)})
            FROM (
                SELECT json::VARCHAR AS {LINE}, {_HASH} AS text_hash,
                    filename AS file, unnest(json_transform(json, $shape))
                FROM read_ndjson_objects($paths, ignore_errors = true, filename = true,
                    hive_partitioning = false)
            )
        ) WHERE {broken} OR ({" AND ".join(wanted) or "true"})
        """,  # noqa: S608  # constants of this module
        {"shape": json.dumps(shape), "paths": [glob.escape(path) for path in files], **values},
    )
    connection.execute(
        f"CREATE VIEW decisions AS SELECT {', '.join(kept)} FROM lines WHERE broken_in IS NULL"  # noqa: S608  # as above
    )
    counted = connection.execute(
        "SELECT broken_in, count(*) FROM lines WHERE broken_in IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return {files[path]: number for path, number in counted.fetchall()}


def _part_done(connection: "duckdb.DuckDBPyConnection") -> float | None:
    """The part of the present query that is done: duckdb's estimate; None if it has none."""
    percent = connection.query_progress()
    return None if percent < 0 else percent / 100


def _delete_copies(connection: "duckdb.DuckDBPyConnection") -> int:
    """Delete each decision whose line was read before; return how many.

    No two decisions have the same line: the server makes a new `decision_id` for each. A line with
    the id of an earlier one (`repeated`) is of a later call, and has another `decided_at`;
    it counts in no statistics.
    """
    [is_any] = connection.execute(
        "SELECT count(*) > count(DISTINCT text_hash) FROM lines WHERE broken_in IS NULL"
    ).fetchone() or (False,)
    if not is_any:
        return 0
    [copies] = connection.execute(
        """
        DELETE FROM lines WHERE broken_in IS NULL AND rowid NOT IN (
            SELECT min(rowid) FROM lines GROUP BY decision_id, text_hash
        )
        """
    ).fetchone() or (0,)
    return int(copies)


@contextmanager
def _problems_named() -> Iterator[None]:
    """Raise the problems of duckdb as LogsError, with the first line of their text."""
    import duckdb  # noqa: PLC0415  # of an extra

    try:
        yield
    except duckdb.Error as error:
        raise LogsError(str(error).partition("\n")[0]) from error


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _naive(value: Any) -> Any:
    """A value for duckdb, whose instants are in UTC and have no time zone."""
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
