"""Whatever is altered, taken away or moved in a chain is found, and its place is named (S14)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind, chain_hash
from stepup.domain.chain import ChainCheck, EventClient, Head, Unreadable, client_problem

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ACME = TenantId("acme")


def an_event(number, tenant=ACME):
    return Event(
        tenant,
        EventKind.OTP_VERIFIED,
        NOON,
        CallerId("console"),
        UserId("ada"),
        event_id=f"e{number}",
    )


def a_chain(length=5, tenant=ACME):
    chain, sequence, last_hash = [], 0, NO_HASH
    for number in range(1, length + 1):
        chain.append(ChainedEvent.after(sequence, last_hash, an_event(number, tenant)))
        sequence, last_hash = chain[-1].sequence, chain[-1].hash
    return chain


def head_of(chain):
    return Head(chain[-1].sequence, chain[-1].hash)


CHAIN = a_chain()
HEAD = head_of(CHAIN)


def damage(rows, head=HEAD, exported=None):
    """The numbers at which something is found, and what."""
    check = ChainCheck(ACME, exported)
    found = [damage for row in rows for damage in check.follow(row)]
    found += check.finish(head)
    assert {damage.tenant for damage in found} <= {ACME}
    return [(damage.sequence, damage.problem) for damage in found]


def places(rows, head=HEAD, exported=None):
    return [place for place, _ in damage(rows, head, exported)]


def without(*numbers):
    return [row for row in CHAIN if row.sequence not in numbers]


def with_row(number, **changes):
    return [replace(row, **changes) if row.sequence == number else row for row in CHAIN]


def altered(number):
    return replace(CHAIN[number - 1].event, actor_user_id=UserId("mallory"))


DEVICE = Device("192.0.2.7", "Firefox")
SALT = bytes(range(16))
OF_DEVICE = ChainedEvent.after(
    0, NO_HASH, replace(an_event(1), client=DEVICE).with_client_hash(SALT)
)
STORED_DEVICE = EventClient(1, UserId("ada"), NOON, SALT, DEVICE)


@pytest.mark.parametrize(
    ("stored", "of", "problem"),
    [
        (STORED_DEVICE, OF_DEVICE, None),
        (STORED_DEVICE, Unreadable(1, "broken"), None),
        (STORED_DEVICE, None, "there is a device without its event"),
        (STORED_DEVICE, CHAIN[0], "the device is not the one of the event"),
        (Unreadable(1, "broken"), OF_DEVICE, "the device of the event: broken"),
        *(
            (replace(STORED_DEVICE, **change), OF_DEVICE, "the device is not the one of the event")
            for change in (
                {"user_id": UserId("eve")},
                {"occurred_at": datetime(2026, 3, 1, 13, tzinfo=UTC)},
                {"salt": bytes(16)},
                {"client": Device("192.0.2.8", "Firefox")},
            )
        ),
    ],
)
def test_s14_a_stored_device_must_be_that_of_its_event(stored, of, problem):
    assert client_problem(stored, of) == problem


def test_s14_an_intact_chain_has_no_damage():
    assert damage(CHAIN) == []


@pytest.mark.parametrize("number", [1, 3, 5])
def test_s14_an_altered_event_is_named_and_no_other(number):
    assert places(with_row(number, event=altered(number))) == [number]


@pytest.mark.parametrize("number", [1, 3])
def test_s14_an_altered_hash_is_named_and_no_other(number):
    assert places(with_row(number, hash=bytes(32))) == [number]


def test_s14_an_altered_previous_hash_is_named():
    assert damage(with_row(3, previous_hash=bytes(32))) == [
        (3, "the event does not match its hash: altered, or moved here"),
        (3, "the event does not follow the one before it"),
    ]


def test_s14_an_event_that_was_altered_with_its_hash_shows_in_the_next():
    event = altered(3)
    forged = with_row(3, event=event, hash=chain_hash(event, 3, CHAIN[2].previous_hash))
    assert damage(forged) == [(4, "the event does not follow the one before it")]


def test_s14_the_last_event_altered_with_its_hash_shows_in_the_head():
    event = altered(5)
    forged = with_row(5, event=event, hash=chain_hash(event, 5, CHAIN[4].previous_hash))
    assert damage(forged) == [(5, "the head of the chain has another hash")]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([3], (3, "event 3 is missing in between")),
        ([2, 3, 4], (2, "events 2 to 4 are missing in between")),
        ([1], (1, "event 1 is missing at the beginning")),
        ([1, 2], (1, "events 1 to 2 are missing at the beginning")),
        ([5], (5, "event 5 is missing at the end")),
        ([4, 5], (4, "events 4 to 5 are missing at the end")),
        ([1, 2, 3, 4, 5], (1, "events 1 to 5 are missing at the end")),
    ],
)
def test_s14_a_gap_is_named_once(missing, expected):
    assert damage(without(*missing)) == [expected]


def test_s14_events_that_changed_places_are_both_named():
    first, second = CHAIN[2], CHAIN[3]
    rows = with_row(3, event=second.event, previous_hash=second.previous_hash, hash=second.hash)
    rows[3] = replace(
        CHAIN[3], event=first.event, previous_hash=first.previous_hash, hash=first.hash
    )
    assert {3, 4} <= set(places(rows)) <= {3, 4, 5}


def test_s14_two_events_of_one_number_are_named():
    assert damage([*CHAIN[:3], CHAIN[2], *CHAIN[3:]]) == [
        (3, "there are two events of this number")
    ]


@pytest.mark.parametrize("number", [0, -1])
def test_s14_a_number_that_no_event_can_have_is_named(number):
    rows = [replace(CHAIN[0], sequence=number), *CHAIN]
    assert damage(rows) == [(number, "an event cannot have this number")]


def test_s14_a_row_without_a_number_is_told():
    rows = [*CHAIN, Unreadable(None, "a column has a type that is never written")]
    assert damage(rows) == [(None, "an event cannot have this number")]


def test_s14_an_unreadable_row_is_named_and_no_other():
    rows = [*CHAIN[:2], Unreadable(3, "kind is not as it was written"), *CHAIN[3:]]
    assert damage(rows) == [(3, "kind is not as it was written")]


def test_an_unreadable_last_row_leaves_the_head_in_doubt_but_not_to_blame():
    assert damage([*CHAIN[:4], Unreadable(5, "it is broken")]) == [(5, "it is broken")]


def test_s14_an_event_of_another_tenant_is_named():
    theirs = a_chain(1, TenantId("umbrella"))
    assert damage(theirs, head_of(theirs)) == [(1, "the event is of another tenant")]


def test_s14_an_event_that_was_moved_here_does_not_match_its_hash():
    moved = replace(CHAIN[1], event=replace(CHAIN[1].event, tenant_id=TenantId("umbrella")))
    check = ChainCheck("umbrella")
    found = [each.problem for each in check.follow(moved)]
    assert found == [
        "event 1 is missing at the beginning",
        "the event does not match its hash: altered, or moved here",
    ]


def test_the_last_number_is_known_at_any_time():
    check = ChainCheck(ACME)
    assert check.last == 0
    for row in without(2):
        list(check.follow(row))
    assert check.last == 5


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (None, "the head of the chain is gone"),
        (Unreadable(5, "it is broken"), "the head of the chain: it is broken"),
        (Head(4, CHAIN[3].hash), "the head of the chain is at 4"),
        (Head(5, bytes(32)), "the head of the chain has another hash"),
    ],
)
def test_s14_a_head_that_disagrees_is_told_at_the_last_event(head, problem):
    assert damage(CHAIN, head) == [(5, problem)]


def test_s14_a_head_that_is_ahead_tells_what_is_missing():
    assert damage(CHAIN, Head(7, bytes(32))) == [(6, "events 6 to 7 are missing at the end")]


def test_s14_a_head_without_events_is_told():
    assert damage([], Head(0, NO_HASH)) == [(0, "the head of the chain is at 0")]


@pytest.mark.parametrize("number", [1, 3, 5])
def test_s14_a_chain_that_contains_the_exported_head_is_intact(number):
    assert damage(CHAIN, exported=Head(number, CHAIN[number - 1].hash)) == []


def test_s14_a_chain_that_was_cut_with_its_head_is_shorter_than_the_exported_head():
    cut = CHAIN[:3]
    assert damage(cut, head_of(cut), HEAD) == [
        (4, "events 4 to 5 are missing which the exported head counts")
    ]


def test_s14_a_chain_that_is_gone_with_its_head_is_missed():
    assert damage([], None, HEAD) == [
        (1, "events 1 to 5 are missing which the exported head counts")
    ]


def test_s14_a_chain_that_was_written_anew_does_not_contain_the_exported_head():
    forged = []
    sequence, last_hash = 0, NO_HASH
    for row in CHAIN:
        event = replace(row.event, caller=CallerId("mallory"))
        forged.append(ChainedEvent.after(sequence, last_hash, event))
        sequence, last_hash = forged[-1].sequence, forged[-1].hash
    assert damage(forged, head_of(forged)) == []
    assert damage(forged, head_of(forged), Head(3, CHAIN[2].hash)) == [
        (3, "the event is not the one of the exported head")
    ]


def test_s14_an_exported_head_that_is_in_a_gap_is_told_as_a_gap():
    assert places(without(3), exported=Head(3, CHAIN[2].hash)) == [3]
