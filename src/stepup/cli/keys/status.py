"""`stepup keys status`: what each key seals, and whether it can be retired."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import typer

from stepup.cli import output
from stepup.domain.elevation import LIFETIME
from stepup.keys.file import KeyFile
from stepup.service.ports import SealCounts


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The status of one key."""

    key_id: str
    state: str
    created_at: datetime | None
    counts: SealCounts
    receipts_until: datetime | None
    in_use: tuple[str, ...]

    @property
    def can_be_retired(self) -> bool:
        """Whether the key is not in use."""
        return not self.in_use

    @property
    def is_missing(self) -> bool:
        """Whether the key sealed secrets, and the ring lacks it."""
        return self.created_at is None

    @property
    def document(self) -> dict[str, Any]:
        """The status as JSON, for programs."""
        return {
            "id": self.key_id,
            "state": self.state,
            "created_at": self.created_at.isoformat() if self.created_at else None,
            "authenticators": self.counts.authenticators,
            "pending_enrollments": self.counts.pending_enrollments,
            "reset_codes": self.counts.reset_codes,
            "receipts_until": self.receipts_until.isoformat() if self.receipts_until else None,
            "can_be_retired": self.can_be_retired,
            "in_use": list(self.in_use),
        }


def report(
    file: KeyFile, counts: Mapping[str, SealCounts], retry_window: timedelta, now: datetime
) -> list[KeyStatus]:
    """The status of each key of the ring, oldest first, then of each missing key."""
    by_age = sorted(file.keys, key=lambda key_id: (file.keys[key_id].created_at, key_id))
    missing = sorted(counts.keys() - file.keys.keys())
    return [
        *(
            _status(file, key_id, counts.get(key_id, SealCounts()), retry_window, now)
            for key_id in by_age
        ),
        *(
            KeyStatus(key_id, "missing", None, counts[key_id], None, ("it is not in the ring",))
            for key_id in missing
        ),
    ]


def _status(
    file: KeyFile, key_id: str, counts: SealCounts, retry_window: timedelta, now: datetime
) -> KeyStatus:
    entry = file.keys[key_id]
    if key_id == file.primary:
        return KeyStatus(
            key_id, "primary", entry.created_at, counts, None, ("it is the primary key",)
        )
    # A key that was never primary has issued no receipts.
    until = entry.demoted_at + retry_window if entry.demoted_at else None
    named = {
        "authenticators": counts.authenticators,
        "pending enrollments": counts.pending_enrollments,
        "reset codes": counts.reset_codes,
    }
    in_use = [f"{number} {name} are sealed by it" for name, number in named.items() if number]
    if until is not None and now < until:
        in_use.append(f"retries may present its receipts until {_text(until)}")
    if entry.demoted_at and now < entry.demoted_at + LIFETIME:
        elevated_until = _text(entry.demoted_at + LIFETIME)
        in_use.append(f"elevations may have its MAC until {elevated_until}")
    state = "demoted" if entry.demoted_at else "staged"
    return KeyStatus(key_id, state, entry.created_at, counts, until, tuple(in_use))


def show(statuses: list[KeyStatus], *, as_json: bool) -> None:
    """Write the report to standard output."""
    if as_json:
        typer.echo(json.dumps([status.document for status in statuses], indent=2))
        return
    output.write_table(
        (
            *("key", "state", "created", "authenticators", "pending", "reset codes"),
            *("receipts until", "can be retired"),
        ),
        [
            (
                status.key_id,
                status.state,
                _text(status.created_at),
                status.counts.authenticators,
                status.counts.pending_enrollments,
                status.counts.reset_codes,
                _text(status.receipts_until),
                "yes" if status.can_be_retired else "no",
            )
            for status in statuses
        ],
    )


def _text(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}Z" if instant else "-"
