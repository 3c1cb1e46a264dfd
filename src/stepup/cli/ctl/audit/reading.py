"""Reads audit events, and shows them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from stepup.cli import output
from stepup.cli.ctl.messages import NONE, fields_of, instant_shown, word_of
from stepup.cli.ctl.patience import call_patiently
from stepup.cli.ctl.policy.showing import NOT_SELECTED, demand_shown
from stepup.client.messages import audit
from stepup.domain.audit import EventKind
from stepup.domain.policy import EVERY_TIME

if TYPE_CHECKING:
    from stepup.cli.ctl.operating import Operating

COLUMNS: Final = ("time", "event", "kind", "by", "person", "details")
_PAGE: Final = 100
_CHANGING: Final = {
    "ChallengeService/CancelChallenge",
    "EnrollmentService/AdminResetEnrollment",
    "PeopleService/UnlockUser",
    "PolicyService/UpdatePolicy",
}
"""The methods that make changes, and whose calls are an `operator_read` if they made none."""
_IN_JSON_ONLY: Final = ("request_id", "session", "client", "etag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The wanted events. An empty condition, or None, means all.

    Attributes:
        kinds: the kinds.
        attempts: whether to add calls of operators that could change something, and changed
            nothing, as those that the server refused. It has no effect if all kinds are wanted.
        user_id: the person who acted, or whom the event affects.
        since: the first instant.
        until: the end, which is not included.
    """

    kinds: frozenset[EventKind]
    attempts: bool = False
    user_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def filter(self) -> audit.AuditEventFilter:
        """The conditions as a message."""
        wanted = self.kinds | ({EventKind.OPERATOR_READ} if self._adds_attempts else set())
        kinds = sorted(wanted, key=lambda kind: kind.value)
        return audit.AuditEventFilter(
            start_time=_timestamp(self.since),
            end_time=_timestamp(self.until),
            user_id=self.user_id,
            kinds=[audit.AuditEventKind.Value(f"AUDIT_EVENT_KIND_{kind.name}") for kind in kinds],
        )

    def matches(self, event: audit.AuditEvent) -> bool:
        """Whether kind and person are wanted."""
        of_kind = not self.kinds or event.kind in self.filter.kinds
        people = (event.actor_user_id, event.subject_user_id)
        return of_kind and self.has_method(event) and (not self.user_id or self.user_id in people)

    def has_method(self, event: audit.AuditEvent) -> bool:
        """Whether the event is wanted by its method: where only attempts are, reads are not."""
        if not self._adds_attempts or event.kind != audit.AUDIT_EVENT_KIND_OPERATOR_READ:
            return True
        return fields_of(event.details).get("method") in _CHANGING

    @property
    def _adds_attempts(self) -> bool:
        return self.attempts and bool(self.kinds) and EventKind.OPERATOR_READ not in self.kinds


def write_events(work: "Operating", query: Query, limit: int) -> None:
    """Write the newest events of a query.

    Raises:
        StepUpError: a page cannot be read; the events of earlier pages are written.
    """
    events = newest_events(work, query, limit + 1)
    wanted = islice(events, limit)
    if work.as_json:
        for event in wanted:
            output.write_json(fields_of(event))
    else:
        output.write_table(
            COLUMNS, map(cells_of, wanted), empty=f"{work.tenant} has no such audit event"
        )
    if next(events, None) is not None:
        output.write_problem(f"older events are left out: --limit {limit}")


def newest_events(work: "Operating", query: Query, number: int) -> Iterator[audit.AuditEvent]:
    """The newest events of a query, the newest first. Pages are read as needed.

    Raises:
        StepUpError: a page cannot be read.
    """
    token = ""
    while True:
        page = call_patiently(
            partial(
                work.client.audit.list,
                tenant_id=work.tenant,
                filter=query.filter,
                page_size=min(number, _PAGE),
                page_token=token,
                newest_first=True,
            )
        )
        yield from filter(query.has_method, page.events)  # the server does not filter by method
        if not (token := page.next_page_token):
            return


def cells_of(event: audit.AuditEvent) -> tuple[object, ...]:
    """What a table shows of an event, in the order of `COLUMNS`."""
    details = fields_of(event.details)
    return (
        instant_shown(event.occurred_at),
        event.sequence,
        word_of(audit.AuditEventKind.DESCRIPTOR, event.kind),
        _actor(event, details),
        event.subject_user_id or NONE,
        _details_shown(event, details),
    )


def _actor(event: audit.AuditEvent, details: Mapping[str, Any]) -> str:
    """The acting person; or else the operator, the user of a host, or the calling program."""
    if event.actor_user_id:
        return event.actor_user_id
    if "operator" in details:
        return f"operator {details['operator']['name']}"
    if "os_user" in details:
        return f"{details['os_user']} on {details.get('host')}"
    return f"caller {event.caller}"


def _details_shown(event: audit.AuditEvent, details: Mapping[str, Any]) -> str:
    """The details in one line: of a change the values that differ."""
    shown = {name: value for name, value in details.items() if name not in _IN_JSON_ONLY}
    operator = shown.pop("operator", {})
    if isinstance(shown.get("before"), dict):  # of `audit_pruned` it is an instant
        shown |= _differences(shown.pop("before"), shown.pop("after", {}))
    shown |= {"reason": operator["reason"]} if operator else {}
    shown |= {"address": event.client.address} if event.client.address else {}
    return "; ".join(f"{name}: {_text(value)}" for name, value in sorted(shown.items()))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in (before.keys() | after.keys()) - set(_IN_JSON_ONLY):
        old, new = before.get(name), after.get(name)
        if name == "operations" and isinstance(old, dict) and isinstance(new, dict):
            old, new = ({each: _demand(age) for each, age in ages.items()} for ages in (old, new))
            found |= {
                each: _change(old.get(each, NOT_SELECTED), new.get(each, NOT_SELECTED))
                for each in old.keys() | new.keys()
                if old.get(each) != new.get(each)
            }
        elif isinstance(old, dict) and isinstance(new, dict):
            found |= _differences(old, new)
        elif old != new:
            found[name] = _change(_text(old), _text(new))
    return found


def _change(old: str, new: str) -> str:
    return f"{new} (before: {old})"


def _demand(max_age: object) -> str:
    """The recorded demand of an operation, as `ctl policy show` words it."""
    if max_age == "every_time":
        return demand_shown(EVERY_TIME)
    return demand_shown(timedelta(seconds=max_age)) if type(max_age) is int else _text(max_age)


def _text(value: object) -> str:
    return value if isinstance(value, str) else NONE if value is None else json.dumps(value)


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant)
    return message
