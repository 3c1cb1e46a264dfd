"""The story of one decision: the question, the answer, its reason, and what came before."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shlex import join
from typing import Any, Final

from stepup.cli import output
from stepup.cli.decisions.events import RecordedEvent, events_of
from stepup.cli.decisions.reading import LINE, Decisions
from stepup.cli.decisions.reasons import sentences_of
from stepup.cli.times import in_words, shown
from stepup.domain.decision import Decision
from stepup.domain.elevation import LIFETIME

_MINUTE: Final = timedelta(minutes=1)
_AFTERWARDS: Final = timedelta(minutes=5)
_BEFORE: Final = 5
_AFTER: Final = 3
_EVENTS: Final = 20
# A prompt within the minute comes first; else the nearest decision.
_NEAREST: Final = f"""
    SELECT *, greatest($at - decided_at, decided_at - $at - INTERVAL 1 MINUTE, INTERVAL 0 MINUTE)
        AS distance
    FROM decisions WHERE $session IS NULL OR session = $session
    ORDER BY distance, decision = '{Decision.ALLOWED}', decided_at, decision_id LIMIT 1
"""  # noqa: S608  # a constant
_EARLIER: Final = f"""
    SELECT * FROM decisions
    WHERE session IS NOT DISTINCT FROM $session AND decided_at < $at
    ORDER BY decided_at DESC, decision_id LIMIT {_BEFORE}
"""  # noqa: S608  # a constant
_LATER: Final = f"""
    SELECT * FROM decisions
    WHERE session IS NOT DISTINCT FROM $session AND decided_at > $at AND decided_at < $end
    ORDER BY decided_at, decision_id LIMIT {_AFTER}
"""  # noqa: S608  # a constant
_ELEVATED: Final = """
    SELECT max(elevated_at) AS elevated_at FROM decisions
    WHERE session IS NOT DISTINCT FROM $session AND decided_at <= $at
"""


class SeveralTenantsError(Exception):
    """The logs have people with this id in several businesses."""


@dataclass(frozen=True)
class Story:
    """A decision, and what explains it. `before` and `after` are of the same session.

    `distance` is the time from the minute of the question to the decision: zero for a decision in
    that minute, negative for an earlier one.
    """

    asked: datetime
    distance: timedelta
    decision: Mapping[str, Any]
    because: Sequence[str]
    before: Sequence[Mapping[str, Any]]
    after: Sequence[Mapping[str, Any]]
    events: Sequence[RecordedEvent]

    @property
    def commands(self) -> list[str]:
        """Commands that show more."""
        of = self.decision
        tenant = ("--tenant", of["tenant_id"])
        positional = ("--",) if of["user_id"].startswith("-") else ()
        user = ("--user", of["user_id"])
        since, until = (
            shown(of["decided_at"] + distance) for distance in (-2 * LIFETIME, _AFTERWARDS)
        )
        audit = ("stepup", "ctl", "audit", "list", *tenant, *user)
        check = ("stepup", "ctl", "check", *tenant, *user, "--operation", of["operation"])
        return [
            join((*audit, "--since", since, "--until", until)),
            join(("stepup", "ctl", "people", "show", *tenant, *positional, of["user_id"])),
            join((*check, "--target", of["target"]) if of["target"] else check),
        ]

    def as_json(self) -> dict[str, Any]:
        """The story as an object; decisions and events are as their files have them.

        A line that Python cannot read, such as one with an integer of 5,000 digits, is a text.
        """
        return {
            "seconds_from_minute": self.distance.total_seconds(),
            "decision": _object_of(self.decision),
            "because": list(self.because),
            "before": [_object_of(row) for row in self.before],
            "after": [_object_of(row) for row in self.after],
            "events": [dict(event.fields) for event in self.events],
            "commands": self.commands,
        }


def story_of(
    decisions: Decisions, at: datetime, session: str | None, audit: Sequence[Path]
) -> Story | None:
    """Find the decision of a time, and explain it.

    Args:
        decisions: all columns of the decisions about one person.
        at: the beginning of a minute. A prompt within the minute is preferred; without a decision
            in the minute the nearest one counts.
        session: the hash of a session; None means any session.
        audit: files with audit events.

    Returns:
        The story; None without a decision.

    Raises:
        LogsError: a file cannot be read.
        SeveralTenantsError: the decisions are about people of several businesses.
    """
    tenants = decisions.tenant_ids()
    if len(tenants) > 1:
        raise SeveralTenantsError(", ".join(tenants))
    found = next(decisions.rows(_NEAREST, at=at, session=session), None)
    if found is None:
        return None
    of = {"session": found["session"], "at": found["decided_at"]}
    [elevated] = decisions.rows(_ELEVATED, **of)
    events = sorted(events_of(audit, found["tenant_id"]), key=lambda event: event.occurred_at)
    earlier = [event for event in events if event.occurred_at <= found["decided_at"]]
    codes = [event.occurred_at for event in earlier if event.elevates(found["session"])]
    elevated_at = max(filter(None, (elevated["elevated_at"], *codes)), default=None)
    policy = next((each for each in earlier[::-1] if each.sets_policy(found["policy_etag"])), None)
    begin = elevated_at or found["decided_at"] - LIFETIME
    end = found["decided_at"] + _AFTERWARDS
    decided_at = found["decided_at"]
    return Story(
        at,
        min(decided_at - at, timedelta()) or max(decided_at - at - _MINUTE, timedelta()),
        found,
        list(sentences_of(found, elevated_at, policy)),
        list(decisions.rows(_EARLIER, **of))[::-1],
        list(decisions.rows(_LATER, **of, end=end)),
        [
            event
            for event in events
            if begin <= event.occurred_at < end and event.concerns(found["user_id"])
        ][-_EVENTS:],
    )


def write_story(story: Story) -> None:
    """Write a story for people."""
    of = story.decision
    if story.distance:
        side = "earlier" if story.distance < timedelta() else "later"
        output.write_wrapped(
            f"The minute that begins at {shown(story.asked)} has no decision. The nearest one is"
            f" {in_words(abs(story.distance))} {side}:"
        )
    output.write(f"{shown(of['decided_at'])}  {of['decision']}: {of['reason']}")
    for sentence in story.because:
        output.write_wrapped(f"  {sentence}")
    output.write()
    facts = [
        ("person", f"{of['user_id']} of {of['tenant_id']}, {of['account_type']} account"),
        ("session", of["session"]),
        ("operation", of["operation"] + (f" on {of['target']}" if of["target"] else "")),
        ("caller", f"{of['caller']} ({', '.join(of['identities'] or ())})"),
        ("permitted by", of["granted_by"]),
        ("claims", ", ".join(f"{claim} by {rule}" for claim, rule in (of["claims"] or {}).items())),
        ("playbook run", _run(of["playbook_run"])),
        ("policy etag", of["policy_etag"]),
        ("decision id", of["decision_id"]),
        ("request id", of["request_id"]),
    ]
    for name, value in facts:
        if value:
            output.write_wrapped(f"{name:<14}{value}")
    _write_rows("Before, in this session", story.before)
    _write_rows("After, in this session", story.after)
    if story.events:
        output.write()
        output.write("Audit events")
        output.write_table(
            ("time", "kind", "by", "cause"),
            [
                (
                    shown(event.occurred_at),
                    event.kind,
                    event.actor,
                    event.details.get("cause") or event.details.get("scope") or "",
                )
                for event in story.events
            ],
        )
    output.write()
    output.write("More:")
    for command in story.commands:
        output.write(f"  {command}")


def _write_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    output.write()
    output.write(title)
    output.write_table(
        ("time", "operation", "target", "answer", "reason"),
        [
            (
                shown(row["decided_at"]),
                *(row[name] or "" for name in ("operation", "target", "decision", "reason")),
            )
            for row in rows
        ],
    )


def _object_of(row: Mapping[str, Any]) -> Any:
    try:
        return json.loads(row[LINE])
    except (ValueError, RecursionError):
        return row[LINE]


def _run(run: Mapping[str, str] | None) -> str:
    return f"{run['run_id']} of {run['playbook_id']}, {run['trigger']}" if run else ""
