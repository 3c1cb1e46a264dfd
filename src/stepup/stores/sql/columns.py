"""Columns that several tables share: instants, JSON, throttles."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, Integer, Row, Text, TypeDecorator

from stepup.domain.actor import SessionHash
from stepup.domain.code_history import CodeHistory, ForgivableFailure, UsedCode
from stepup.domain.instants import instant_at, microseconds
from stepup.domain.throttle import FailedSession, SessionRule, SessionThrottle, Throttle
from stepup.domain.totp import time_step


class Instant(TypeDecorator[datetime]):
    """An aware instant, exact to the microsecond. SQLite keeps it as UTC without saying so."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a naive instant raises `ValueError`."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant must be aware of its time zone")
        converted = value.astimezone(UTC)
        return converted.replace(tzinfo=None) if dialect.name == "sqlite" else converted

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Make the instant aware again."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """JSON as ASCII text.

    A database's own JSON type would rewrite numbers and refuse NUL: the values that are read back
    would have other hashes (S14).
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Serialize; names keep their order."""
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Parse; text that is not JSON raises `ValueError`."""
        return None if value is None else json.loads(value)


def throttle_columns() -> tuple[Column[Any], ...]:
    """The columns of one throttle: `recent` has microseconds since the epoch, oldest first."""
    return (
        Column("in_a_row", Integer, nullable=False),
        Column("recent", JsonText, nullable=False),
        Column("locked_until", Instant),
    )


def throttle_values(throttle: Throttle) -> Mapping[str, Any]:
    """The values of `throttle_columns` for a throttle."""
    return {
        "in_a_row": throttle.in_a_row,
        "recent": [microseconds(at) for at in throttle.recent],
        "locked_until": throttle.locked_until,
    }


def read_throttle(row: Row[Any]) -> Throttle:
    """Read the throttle in `throttle_columns`."""
    recent = tuple(map(instant_at, row.recent))
    return Throttle(row.in_a_row, recent, row.locked_until)


def session_values(throttle: SessionThrottle) -> list[Any]:
    """A throttle of sessions as JSON: instants are microseconds since the epoch."""
    return [
        [
            each.session_hash,
            [microseconds(at) for at in each.recent],
            each.locked_until and microseconds(each.locked_until),
        ]
        for each in throttle.failed_sessions
    ]


def read_sessions(stored: list[Any] | None, rule: SessionRule) -> SessionThrottle:
    """Read what `session_values` wrote; None gives an empty throttle."""
    return SessionThrottle(
        rule,
        tuple(
            FailedSession(
                SessionHash(session_hash),
                tuple(map(instant_at, recent)),
                locked_until and instant_at(locked_until),
            )
            for session_hash, recent, locked_until in stored or ()
        ),
    )


def history_values(history: CodeHistory) -> dict[str, Any]:
    """A history of codes as JSON: instants are microseconds since the epoch."""
    return {
        "used": [
            [each.session_hash, each.step, microseconds(each.used_at)] for each in history.used
        ],
        "forgivable": [
            [each.session_hash, microseconds(each.failed_at), each.step]
            for each in history.forgivable
        ],
        "noted": dict(history.noted),
    }


def read_history(stored: dict[str, Any] | None) -> CodeHistory:
    """Read what `history_values` wrote; None gives an empty history."""
    if stored is None:
        return CodeHistory()
    return CodeHistory(
        tuple(
            UsedCode(SessionHash(session_hash), step, instant_at(used_at))
            for session_hash, step, used_at in stored["used"]
        ),
        tuple(_read_failure(*failure) for failure in stored["forgivable"]),
        MappingProxyType(stored["noted"]),
    )


def _read_failure(session_hash: str, failed_at: int, step: int | None = None) -> ForgivableFailure:
    at = instant_at(failed_at)
    # An older release stored no step: take the latest one that a refused code can have.
    return ForgivableFailure(
        SessionHash(session_hash), at, time_step(at) + 1 if step is None else step
    )


def big_integer() -> BigInteger:
    """64 bits; SQLite numbers rows only where the type is spelt INTEGER."""
    return BigInteger().with_variant(Integer, "sqlite")
