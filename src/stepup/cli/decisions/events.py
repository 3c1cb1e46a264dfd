"""Audit events from files, beside the decisions that they explain."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from stepup.cli.decisions.sources import LogsError
from stepup.domain.audit import EventKind

_KIND_OF_API: Final = "audit_event_kind_"
_NO_EVENT: Final = (
    *(KeyError, TypeError, ValueError, AttributeError),
    *(OverflowError, RecursionError),
)
_ELEVATING: Final = (EventKind.OTP_VERIFIED.value, EventKind.ENROLLMENT_COMPLETED.value)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An audit event. `kind` is that of docs/auditing.md; `fields` is the event as exported."""

    event_id: str
    occurred_at: datetime
    kind: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Read an exported event, or one of the API.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, OverflowError: it is not an event.
        """
        occurred_at = datetime.fromisoformat(fields["occurred_at"]).astimezone(UTC)
        kind = fields["kind"].lower().removeprefix(_KIND_OF_API)
        return cls(fields["event_id"], occurred_at, kind, fields)

    @property
    def details(self) -> Mapping[str, Any]:
        """The further facts of the event."""
        details = self.fields.get("details")
        return details if isinstance(details, dict) else {}

    @property
    def actor(self) -> str:
        """The actor: a person, an operator, a user of a host, or the calling program."""
        if user_id := self.fields.get("actor_user_id"):
            return str(user_id)
        if isinstance(operator := self.details.get("operator"), dict):
            return f"operator {operator.get('name')}"
        return str(self.details.get("os_user") or self.fields.get("caller"))

    def concerns(self, user_id: str) -> bool:
        """Whether the person acted, or was affected."""
        return user_id in (self.fields.get("actor_user_id"), self.fields.get("subject_user_id"))

    def elevates(self, session: str) -> bool:
        """Whether a code elevated the session with this hash."""
        return self.kind in _ELEVATING and self.details.get("session") == session

    def sets_policy(self, etag: str) -> bool:
        """Whether the policy of this version was set."""
        after = self.details.get("after")
        return isinstance(after, dict) and after.get("etag") == etag


def events_of(files: Sequence[Path], tenant_id: str) -> Iterator[RecordedEvent]:
    """The events of a business in files of `audit export` and `ctl audit list --json`.

    Args:
        files: of one event in each line. Other lines are left out, and so is an event that another
            file has as well.
        tenant_id: the business.

    Raises:
        LogsError: a file cannot be read.
    """
    seen: set[str] = set()
    for file in files:
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        event = RecordedEvent.of(json.loads(line))
                    except _NO_EVENT:
                        continue
                    if event.fields.get("tenant_id") == tenant_id and event.event_id not in seen:
                        seen.add(event.event_id)
                        yield event
        except OSError as error:
            raise LogsError(f"{file}: {error.strerror}") from error
