"""The recorded calls of a tenant's people, in the form in which they can be decided again.

A decision that repeats an earlier one, because its answer was lost, does not count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from stepup.cli.decisions.reading import CALL, Decisions
from stepup.domain.actor import (
    AccountType,
    Actor,
    OpaqueId,
    PlaybookRun,
    PlaybookTrigger,
    RetryReceipt,
    Role,
    SessionId,
    Team,
    TenantId,
    UserId,
)
from stepup.domain.decision import Decision, Reason
from stepup.domain.errors import InvalidValueError
from stepup.domain.operations import SIGN_IN, Operation, OperationId
from stepup.domain.simulation import SHOW_AUTHENTICATOR, SHOW_NONE, Beginning, RecordedCheck
from stepup.domain.text import Title

COLUMNS: Final = (
    *CALL,
    *("account_type", "role", "team", "playbook_run"),
    *("operation", "decision", "reason", "first_authorised_at", "repeated"),
)
"""The columns of the decision log that a simulation needs."""

_PEOPLE: Final = """
    SELECT user_id AS person,
        arg_min(reason, decided_at) FILTER (reason IN (SELECT unnest(?))) AS evidence,
        arg_min(reason, decided_at) FILTER (operation = ?) AS sign_in
    FROM decisions GROUP BY user_id
"""
_CHECKS: Final = f"""
    WITH people AS ({_PEOPLE})
    SELECT {", ".join(CALL)}, account_type, role, team,
        playbook_run.trigger AS trigger, operation, decision, reason, first_authorised_at,
        evidence, sign_in
    FROM decisions JOIN people ON user_id = person
    WHERE repeated IS NOT true
    ORDER BY user_id, {", ".join(CALL)}
"""  # noqa: S608  # a constant
_REASONS: Final = {reason.value: reason for reason in Reason}
_OF_ACTOR: Final = itemgetter(
    "tenant_id", "user_id", "session", "account_type", "role", "team", "trigger"
)
_RUN: Final = OpaqueId("recorded")
_RECEIPT: Final = RetryReceipt("recorded")
_CHALLENGE: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """The checks of one call, and for each check whether its recorded answer was a prompt."""

    checks: tuple[RecordedCheck, ...]
    prompted: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RecordedPerson:
    """What a person had at the beginning, and the person's calls in the order of their times.

    The calls can be read once, before the next person.
    """

    beginning: Beginning
    calls: Iterator[RecordedCall]


class RecordedPeople:
    """The people of decision logs that were read with COLUMNS, of one tenant.

    `read` counts the people who were read, and `skipped` the decisions that this release does not
    understand.
    """

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self.read = 0
        self.skipped = 0

    def __iter__(self) -> Iterator[RecordedPerson]:
        """Yield one person after the other.

        Raises:
            LogsError: the logs cannot be read.
        """
        evidence = sorted(SHOW_AUTHENTICATOR | SHOW_NONE)
        rows = self._decisions.rows(_CHECKS, evidence, SIGN_IN)
        for _, of_person in groupby(rows, itemgetter("user_id")):
            others = iter(of_person)
            first = next(others)
            beginning = Beginning.shown_by(
                _REASONS.get(first["evidence"]), _REASONS.get(first["sign_in"])
            )
            yield RecordedPerson(beginning, self._calls(chain([first], others)))
            self.read += 1

    def _calls(self, of_person: Iterator[Mapping[str, Any]]) -> Iterator[RecordedCall]:
        for _, rows in groupby(of_person, itemgetter(*CALL)):
            checks, prompted = [], []
            for row in rows:
                try:
                    check, decision = _check(row), Decision(row["decision"])
                except (InvalidValueError, ValueError):
                    self.skipped += 1
                    continue
                checks.append(check)
                prompted.append(decision is not Decision.ALLOWED)
            if checks:
                yield RecordedCall(tuple(checks), tuple(prompted))


def _check(row: Mapping[str, Any]) -> RecordedCheck:
    """The check of a row.

    Raises:
        InvalidValueError: this release does not record such a value.
        ValueError: as above.
    """
    reason = Reason(row["reason"])
    if row["first_authorised_at"] is None and reason is Reason.EXEMPT_TIMED_OUT_RETRY:
        raise ValueError("a retry without the time of the first authorisation")
    return RecordedCheck(
        _actor(_OF_ACTOR(row), reason),
        _operation(row["operation"]),
        row["decided_at"],
        row["first_authorised_at"],
    )


@lru_cache(maxsize=1024)
def _actor(values: tuple[Any, ...], reason: Reason) -> Actor:
    tenant_id, user_id, session, account_type, role, team, trigger = values
    return Actor(
        TenantId(tenant_id),
        UserId(user_id),
        SessionId(session),
        AccountType(account_type),
        Role(role),
        Team(team),
        None if trigger is None else PlaybookRun(_RUN, _RUN, PlaybookTrigger(trigger)),
        retry_receipt=_RECEIPT if reason is Reason.EXEMPT_TIMED_OUT_RETRY else None,
        challenge_id=_CHALLENGE if reason is Reason.CHALLENGE_APPROVED else None,
    )


@lru_cache(maxsize=1024)
def _operation(operation: str) -> Operation:
    return Operation(OperationId(operation), Title(operation))
