"""The states of a challenge, what ends it, and which action it may allow (product.md, S19)."""

from dataclasses import replace
from datetime import timedelta
from operator import methodcaller
from uuid import UUID

import pytest
from stepup_tests.challenges import CREATED, ENROLLMENT, challenge_of, item
from stepup_tests.people import CALLER, person

from stepup.domain.actor import CallerId, SessionHash
from stepup.domain.challenge import (
    KEPT,
    LONGEST_OPEN,
    LONGEST_VALID,
    VALID_FOR,
    Approval,
    ChallengeState,
    ItemTarget,
    checked_duration,
)
from stepup.domain.changes import UserRevocations
from stepup.domain.errors import ChallengeStateError, InvalidValueError
from stepup.domain.item_use import ChallengeRejection, RefusedChallenge, Stranger, UsedItem, fit
from stepup.domain.receipts import Origin, Redemption, digest

ALICE = person()
MICROSECOND, SECOND, MINUTE = timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=1)
ANSWERED = CREATED + MINUTE
EXPIRES, USABLE_UNTIL = CREATED + LONGEST_OPEN, ANSWERED + VALID_FOR
NOW = ANSWERED + MINUTE
PENDING, APPROVED, DECLINED, CANCELLED, EXPIRED, REVOKED = ChallengeState
PHONE = SessionHash("phone")


@pytest.mark.parametrize("text", ["x", "x" * 256, "é" * 128, " "])
def test_a_target_has_1_to_256_bytes(text):
    assert ItemTarget(text) == text


@pytest.mark.parametrize("text", ["", "x" * 257, "é" * 128 + "x", "host\0001"])
def test_any_other_target_is_refused(text):
    with pytest.raises(InvalidValueError):
        ItemTarget(text)


@pytest.mark.parametrize("longest", [LONGEST_OPEN, LONGEST_VALID])
def test_a_duration_is_whole_seconds_from_one_second_to_the_longest(longest):
    for duration in (SECOND, longest):
        assert checked_duration(duration, longest) is duration
    for duration in (timedelta(0), -SECOND, longest + SECOND, SECOND + MICROSECOND):
        with pytest.raises(InvalidValueError, match="whole seconds"):
            checked_duration(duration, longest)


@pytest.mark.parametrize(
    ("stored", "instant", "state"),
    [
        (PENDING, CREATED, PENDING),
        (PENDING, EXPIRES - MICROSECOND, PENDING),
        (PENDING, EXPIRES, EXPIRED),
        (APPROVED, ANSWERED, APPROVED),
        (APPROVED, EXPIRES, APPROVED),
        (APPROVED, USABLE_UNTIL - MICROSECOND, APPROVED),
        (APPROVED, USABLE_UNTIL, EXPIRED),
        *(
            (ended, instant, ended)
            for ended in (DECLINED, CANCELLED, EXPIRED, REVOKED)
            for instant in (CREATED, USABLE_UNTIL)
        ),
    ],
)
def test_time_ends_a_challenge_without_a_write(stored, instant, state):
    challenge = challenge_of(ALICE, stored)
    assert challenge.state_at(instant) is state
    assert challenge.is_open_at(instant) is (state in (PENDING, APPROVED))


def approve(now):
    return methodcaller("approved", now, PHONE, ENROLLMENT)


def decline(now):
    return methodcaller("declined", now)


def cancel(now):
    return methodcaller("cancelled", now)


@pytest.mark.parametrize(
    ("stored", "change", "now", "state"),
    [
        (PENDING, approve, NOW, APPROVED),
        (PENDING, approve, EXPIRES - MICROSECOND, APPROVED),
        (PENDING, decline, EXPIRES - MICROSECOND, DECLINED),
        (PENDING, cancel, EXPIRES - MICROSECOND, CANCELLED),
        (APPROVED, cancel, USABLE_UNTIL - MICROSECOND, CANCELLED),
    ],
)
def test_an_open_challenge_is_answered_or_cancelled(stored, change, now, state):
    before = challenge_of(ALICE, stored)
    after = change(now)(before)
    assert after.stored_state is after.state_at(now) is state
    assert after.ended_at == (None if state is APPROVED else now)
    unchanged = {"stored_state": stored, "approval": before.approval, "ended_at": None}
    assert replace(after, **unchanged) == before


def test_an_approval_says_when_where_and_with_which_authenticator():
    approved = challenge_of(ALICE, PENDING, valid_for=SECOND).approved(NOW, PHONE, "e-1")
    assert approved.approval == Approval(NOW, PHONE, "e-1", NOW + SECOND)


@pytest.mark.parametrize(
    ("stored", "change", "now", "state"),
    [
        (PENDING, approve, EXPIRES, EXPIRED),
        (PENDING, decline, EXPIRES, EXPIRED),
        (PENDING, cancel, EXPIRES, EXPIRED),
        (APPROVED, approve, NOW, APPROVED),
        (APPROVED, decline, NOW, APPROVED),
        (APPROVED, approve, USABLE_UNTIL, EXPIRED),
        (APPROVED, decline, USABLE_UNTIL, EXPIRED),
        (APPROVED, cancel, USABLE_UNTIL, EXPIRED),
        (DECLINED, approve, NOW, DECLINED),
        (DECLINED, cancel, NOW, DECLINED),
        (CANCELLED, approve, NOW, CANCELLED),
        (CANCELLED, decline, NOW, CANCELLED),
        *(
            (ended, change, NOW, ended)
            for ended in (EXPIRED, REVOKED)
            for change in (approve, decline, cancel)
        ),
    ],
)
def test_nothing_else_follows(stored, change, now, state):
    with pytest.raises(ChallengeStateError) as refused:
        change(now)(challenge_of(ALICE, stored))
    assert refused.value.state is state


@pytest.mark.parametrize(("stored", "change"), [(DECLINED, decline), (CANCELLED, cancel)])
def test_to_decline_or_cancel_again_changes_nothing(stored, change):
    challenge = challenge_of(ALICE, stored)
    assert change(USABLE_UNTIL)(challenge) is challenge


@pytest.mark.parametrize("stored", [PENDING, APPROVED])
def test_a_revocation_and_the_end_of_its_time_are_stored(stored):
    challenge = challenge_of(ALICE, stored)
    for after, state in ((challenge.revoked(NOW), REVOKED), (challenge.expired(NOW), EXPIRED)):
        assert after == replace(challenge, stored_state=state, ended_at=NOW)
        assert after.state_at(NOW) is state


@pytest.mark.parametrize(
    ("challenge", "answered_at", "forget_at"),
    [
        (challenge_of(ALICE, PENDING), None, EXPIRES + KEPT),
        (challenge_of(ALICE, APPROVED), ANSWERED, USABLE_UNTIL + KEPT),
        (challenge_of(ALICE, APPROVED).cancelled(NOW), ANSWERED, NOW + KEPT),
        (challenge_of(ALICE, PENDING).cancelled(NOW), None, NOW + KEPT),
        (challenge_of(ALICE, PENDING).declined(NOW), NOW, NOW + KEPT),
    ],
)
def test_a_challenge_is_kept_for_a_day_after_its_end(challenge, answered_at, forget_at):
    assert (challenge.answered_at, challenge.forget_at) == (answered_at, forget_at)


@pytest.mark.parametrize(
    ("revocations", "active", "is_revoked"),
    [
        (UserRevocations(), ENROLLMENT, False),
        (UserRevocations(ANSWERED - MICROSECOND), ENROLLMENT, False),
        (UserRevocations(ANSWERED), ENROLLMENT, True),
        (UserRevocations(NOW), ENROLLMENT, True),
        (UserRevocations(), None, True),
        (UserRevocations(), "another", True),
    ],
)
def test_s10_a_revocation_or_another_authenticator_ends_an_approval(
    revocations, active, is_revoked
):
    assert challenge_of(ALICE).is_revoked(revocations, active) is is_revoked
    assert challenge_of(ALICE, PENDING).is_revoked(revocations, active) is False


@pytest.mark.parametrize(
    ("revocations", "is_ended"),
    [
        (UserRevocations(), False),
        (UserRevocations(CREATED - MICROSECOND), False),
        (UserRevocations(CREATED), True),
        (UserRevocations(ended_enrollments={"e-1": CREATED - MICROSECOND}), False),
        (UserRevocations(ended_enrollments={"e-1": CREATED}), True),
    ],
)
def test_s10_a_revocation_since_its_creation_ends_a_pending_challenge(revocations, is_ended):
    assert challenge_of(ALICE, PENDING).was_ended_by(revocations) is is_ended


HERE = {"operation": "response.run_osquery", "target": "host-1"}


@pytest.mark.parametrize(
    ("changed", "rejection", "stranger"),
    [
        ({"challenge": None}, ChallengeRejection.UNKNOWN, None),
        ({"actor": person("bob")}, ChallengeRejection.UNKNOWN, Stranger.OTHER_USER),
        ({"actor": person(tenant="globex")}, ChallengeRejection.UNKNOWN, Stranger.OTHER_USER),
        ({"caller": CallerId("console")}, ChallengeRejection.UNKNOWN, Stranger.OTHER_CALLER),
        ({"actor": person(session="phone")}, ChallengeRejection.OTHER_SESSION, None),
        ({"target": "host-11"}, ChallengeRejection.NOT_AN_ITEM, None),
        ({"target": ""}, ChallengeRejection.NOT_AN_ITEM, None),
        ({"target": "HOST-1"}, ChallengeRejection.NOT_AN_ITEM, None),
        ({"operation": "response.collect_file"}, ChallengeRejection.NOT_AN_ITEM, None),
        ({"now": USABLE_UNTIL}, ChallengeRejection.EXPIRED, None),
        *(
            ({"challenge": challenge_of(ALICE, state)}, ChallengeRejection(state.value), None)
            for state in ChallengeState
            if state is not APPROVED
        ),
        # A challenge of somebody else is unknown before anything else is said about it.
        (
            {"challenge": challenge_of(ALICE, DECLINED), "caller": CallerId("console")},
            ChallengeRejection.UNKNOWN,
            Stranger.OTHER_CALLER,
        ),
        (
            {"actor": person("bob"), "caller": CallerId("console"), "target": "host-11"},
            ChallengeRejection.UNKNOWN,
            Stranger.OTHER_USER,
        ),
        # The session comes before the state, and the state before the items.
        (
            {"challenge": challenge_of(ALICE, DECLINED), "actor": person(session="phone")},
            ChallengeRejection.OTHER_SESSION,
            None,
        ),
        (
            {"challenge": challenge_of(ALICE, PENDING), "target": "host-11"},
            ChallengeRejection.PENDING,
            None,
        ),
    ],
)
def test_s19_a_challenge_that_does_not_fit_says_why(changed, rejection, stranger):
    asked = {"challenge": challenge_of(ALICE), "caller": CALLER, "actor": ALICE, "now": NOW}
    assert fit(**(asked | HERE | changed)) == RefusedChallenge(rejection, stranger)


@pytest.mark.parametrize("now", [ANSWERED, USABLE_UNTIL - MICROSECOND])
def test_an_approved_challenge_fits_the_actions_of_its_items(now):
    challenge = challenge_of(ALICE, APPROVED, "host-2", "host-1")
    assert fit(challenge, CALLER, ALICE, now, **HERE) == 1


def test_an_item_names_operation_and_target():
    pending = challenge_of(ALICE, PENDING)
    items = (item("host-1", "response.collect_file"), item("host-2"), item("host-1"))
    assert replace(pending, items=items).find_item(**HERE) == 2
    assert replace(pending, items=items[:2]).find_item(**HERE) is None


def test_the_receipt_of_an_action_rests_on_the_approval_and_the_first_use():
    used = UsedItem(challenge_of(ALICE), Redemption(UUID(int=2), NOW))
    assert used.origin == Origin(NOW, ANSWERED, digest(ENROLLMENT))
