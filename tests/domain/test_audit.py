"""The hash chain of audit events (S14)."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest

from stepup.domain.actor import CallerId, Device, TenantId, UserId
from stepup.domain.audit import NO_HASH, ChainedEvent, Event, EventKind, canonical_json, chain_hash

EVENT = Event(
    tenant_id=TenantId("acme"),
    kind=EventKind.OTP_VERIFIED,
    occurred_at=datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    caller=CallerId("console"),
    actor_user_id=UserId("ada"),
    subject_user_id=None,
    details={"title": "caf\u00e9", "attempt": 1},
    event_id="00000000-0000-4000-8000-000000000001",
)
CANONICAL = (
    rb'{"actor_user_id":"ada","caller":"console","details":{"attempt":1,"title":"caf\u00e9"},'
    rb'"event_id":"00000000-0000-4000-8000-000000000001","kind":"otp_verified",'
    rb'"occurred_at":"2026-03-01T12:00:00.000000+00:00","sequence":1,"subject_user_id":null,'
    rb'"tenant_id":"acme"}'
)
OTHERS = {
    "tenant_id": TenantId("umbrella"),
    "kind": EventKind.OTP_REJECTED,
    "occurred_at": EVENT.occurred_at + timedelta(microseconds=1),
    "caller": CallerId("gateway"),
    "actor_user_id": UserId("bob"),
    "subject_user_id": UserId("ada"),
    "details": {"title": "caf\u00e9", "attempt": 2},
    "event_id": "00000000-0000-4000-8000-000000000002",
}


def hash_with(**changes):
    return chain_hash(replace(EVENT, **changes), 1, NO_HASH)


def test_the_hash_is_sha_256_over_the_hash_before_and_sorted_compact_ascii_json():
    assert chain_hash(EVENT, 1, NO_HASH) == sha256(bytes(32) + CANONICAL).digest()


def test_the_canonical_form_is_frozen_for_chains_that_exist_already():
    known = "4aca64b1e7d5b09a154f84d397746570a122cb3f6e631a6818a892ba3234f64c"

    assert chain_hash(EVENT, 1, NO_HASH).hex() == known


def test_the_device_lies_beside_the_chain_which_has_its_salted_hash():
    event = replace(EVENT, client=Device("192.0.2.7", "Firefox"))
    salt = bytes(range(16))
    hashed = sha256(salt + b'{"address":"192.0.2.7","user_agent":"Firefox"}').hexdigest()

    assert chain_hash(event, 1, NO_HASH) == hash_with()
    assert event.with_client_hash(salt).details == {**EVENT.details, "client": hashed}
    assert EVENT.with_client_hash(salt) is EVENT


@pytest.mark.parametrize("name", [field.name for field in fields(Event) if field.name != "client"])
def test_a_change_of_any_field_changes_the_hash(name):
    assert hash_with(**{name: OTHERS[name]}) != hash_with()


def test_the_same_instant_in_another_time_zone_has_the_same_hash():
    elsewhere = EVENT.occurred_at.astimezone(timezone(timedelta(hours=-5)))

    assert hash_with(occurred_at=elsewhere) == hash_with()


def test_the_order_in_which_details_were_written_does_not_matter():
    assert hash_with(details=dict(reversed(EVENT.details.items()))) == hash_with()


def test_details_have_the_same_hash_after_a_trip_through_json():
    details = {"max_ages": {"iam.configure_access": 900}, "of": ["\u00e9", None, True, 0.5]}

    assert hash_with(details=json.loads(json.dumps(details))) == hash_with(details=details)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("\u00e9", "e\u0301", id="composed and decomposed"),
        pytest.param("\u00e9", "\\u00e9", id="a letter and its escape"),
        pytest.param("1", 1, id="text and number"),
        pytest.param(1, True, id="number and truth value"),
        pytest.param(None, "null", id="nothing and its name"),
        pytest.param('","x":"', "", id="text that looks like structure"),
        pytest.param(["a", "b"], ["b", "a"], id="order of a list"),
    ],
)
def test_details_that_differ_in_a_detail_have_different_hashes(one, other):
    assert hash_with(details={"value": one}) != hash_with(details={"value": other})


def test_each_event_follows_the_hash_of_the_one_before():
    first = ChainedEvent.after(0, NO_HASH, EVENT)

    second = ChainedEvent.after(first.sequence, first.hash, EVENT)

    assert second == ChainedEvent(
        EVENT, sequence=2, previous_hash=first.hash, hash=chain_hash(EVENT, 2, first.hash)
    )


def test_every_event_has_an_id_of_its_own():
    made = [
        Event(EVENT.tenant_id, EVENT.kind, EVENT.occurred_at, EVENT.caller, EVENT.actor_user_id)
        for _ in range(2)
    ]

    assert made[0].event_id != made[1].event_id


def test_s14_an_exported_event_is_one_line_for_every_reader():
    text = canonical_json({"reason": "a\u2028b\u2029c\x85d\x9b2J\u202ee\n"})

    assert text.isascii()
    assert len(text.splitlines()) == 1
