"""Which states a person is in, and how long an end of an authenticator forbids imports."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import Authenticator, SealedSecret
from stepup.domain.person import EndedBy, PastAuthenticator, Person, PersonState
from stepup.domain.throttle import Throttle

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
ADA = UserId("ada")
SEALED = SealedSecret("key", b"sealed")
NOBODY = Person(ADA)
ASKED = Person(ADA, first_asked_at=NOW, last_asked_at=NOW)
ENROLLED = Person(ADA, Authenticator(TenantId("acme"), ADA, "enrollment", SEALED, NOW, 1))


def enrolled(throttle):
    return replace(ENROLLED, authenticator=replace(ENROLLED.authenticator, throttle=throttle))


@pytest.mark.parametrize(
    ("person", "states"),
    [
        (NOBODY, ""),
        (ENROLLED, "enrolled"),
        (replace(ENROLLED, last_asked_at=NOW), "enrolled"),
        (replace(ENROLLED, pending_until=NOW + MOMENT), "enrolled pending"),
        (replace(NOBODY, pending_until=NOW + MOMENT), "pending"),
        (replace(NOBODY, pending_until=NOW), ""),
        (ASKED, "not_enrolled in_grace"),
        (replace(ASKED, pending_until=NOW + MOMENT), "pending not_enrolled in_grace"),
        (replace(ASKED, ever_enrolled=True), "not_enrolled"),
        (enrolled(Throttle(5, locked_until=NOW + MOMENT)), "enrolled locked"),
        (enrolled(Throttle(5, locked_until=NOW)), "enrolled"),
        (enrolled(Throttle(99, locked_until=NOW)), "enrolled"),
        (enrolled(Throttle(100, locked_until=NOW)), "enrolled suspended"),
        (enrolled(Throttle(100, locked_until=NOW + MOMENT)), "enrolled locked suspended"),
    ],
)
def test_all_states_that_hold_are_in_the_order_of_the_enumeration(person, states):
    in_time = [state.value for state in person.states(NOW, in_grace=True)]
    assert in_time == states.split()
    too_late = list(person.states(NOW, in_grace=False))
    assert [state.value for state in too_late] == [each for each in in_time if each != "in_grace"]
    assert too_late == [state for state in PersonState if state in too_late]


@pytest.mark.parametrize(
    ("ended_by", "forbids"),
    [
        (EndedBy.ADMINISTRATOR, False),
        (EndedBy.OPERATOR, True),
        (EndedBy.DEPROVISIONING, True),
        (EndedBy.BREAK_GLASS, True),
    ],
)
def test_an_end_from_outside_forbids_imports_for_30_days(ended_by, forbids):
    past = PastAuthenticator(NOW, ended_by)
    for after, expected in (
        (timedelta(days=-1), forbids),  # the clock was set back
        (timedelta(), forbids),
        (timedelta(days=30) - MOMENT, forbids),
        (timedelta(days=30), False),
    ):
        assert past.forbids_import(NOW + after) is expected
