"""Receipts: what proves a retry, so that it need not be believed (S16)."""

import hmac
import string
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stepup.domain.actor import Actor, CallerId, Role, SessionId, TenantId, UserId
from stepup.domain.callers import Claim
from stepup.domain.changes import Revocations, UserRevocations, UserRevoked
from stepup.domain.elevation import CLOCK_TOLERANCE, LIFETIME, Elevation
from stepup.domain.mac_keys import MacKeys
from stepup.domain.operations import OperationId
from stepup.domain.receipt_tokens import Binding, check, issue
from stepup.domain.receipts import (
    RETRY_WINDOW,
    Origin,
    Receipt,
    ReceiptRejection,
    Redemption,
    RefusedReceipt,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
KEYS = MacKeys("k1", {"k1": b"1" * 32})
ENROLLMENT = b"0123456789abcdef"
ORIGIN = Origin(NOW, NOW - timedelta(minutes=3), ENROLLMENT)
RECEIPT = Receipt(UUID("00000000-0000-4000-8000-000000000001"), ORIGIN)
CHECK = {
    "caller": CallerId("response-actions"),
    "actor": Actor(TenantId("acme"), UserId("ada"), SessionId("s-1")),
    "operation": OperationId("response.collect_file"),
    "target": "host-7:/etc/passwd",
}
BINDING = Binding.of(*CHECK.values())
TOKEN = issue(RECEIPT, BINDING, KEYS)

IDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
ACTORS = st.builds(Actor, IDS.map(TenantId), IDS.map(UserId), IDS.map(SessionId))
OPERATIONS = st.from_regex(r"[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}", fullmatch=True)
BINDINGS = st.builds(
    Binding.of, IDS.map(CallerId), ACTORS, OPERATIONS.map(OperationId), st.text(max_size=256)
)
INSTANTS = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis wants its bounds without a zone
    timezones=st.just(UTC),
)
EXEMPTIONS = [Claim.MANAGED_SERVICES, Claim.AUTOMATIC_PLAYBOOK]
ORIGINS = st.builds(
    Origin,
    INSTANTS,
    INSTANTS,
    st.binary(min_size=16, max_size=16),
    st.sampled_from([None, *EXEMPTIONS]),
)
RECEIPTS = st.builds(Receipt, st.uuids(), ORIGINS)


def checked(token=TOKEN, binding=BINDING, claims=(), keys=KEYS, now=NOW, **window):
    """The receipt, or why it is refused."""
    found = check(token, binding, claims, keys, now, **window)
    return found.rejection if isinstance(found, RefusedReceipt) else found


def checked_with(**changes):
    return checked(binding=Binding.of(*{**CHECK, **changes}.values()))


def signed(text, key=KEYS.keys["k1"]):
    """`text` with its right MAC, as only a holder of the key can write it."""
    mac = hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_a_receipt_proves_the_decision_it_was_issued_for():
    assert checked() == RECEIPT


@given(RECEIPTS, BINDINGS)
def test_whatever_the_ids_a_receipt_that_was_issued_is_valid(receipt, binding):
    token = issue(receipt, binding, KEYS)

    assert check(token, binding, set(Claim), KEYS, receipt.origin.authorised_at) == receipt


def test_the_form_is_frozen_for_receipts_that_are_out_already():
    assert TOKEN == (
        "2.k1.AAAAAAAAQACAAAAAAAAAAQAGS_U1rxAAAAZL9Sr0ewAAMDEyMzQ1Njc4OWFiY2RlZvx94vrVAbR3pLfngHIe"
        "2gZcGdozeXgtB5IUVgggJ__zJI7NK767lY3XmqUidXhmWCml1COpeh4DEPYonh73f0Y"
        ".5LJfX2hD_3-hV22DlkMPlyGutnCHKHjW7zmC5obCZr0"
    )


@given(RECEIPTS, BINDINGS)
def test_a_receipt_is_ascii_and_has_at_most_300_bytes(receipt, binding):
    token = issue(receipt, binding, MacKeys("k" * 64, {"k" * 64: b"1" * 32}))

    assert token.isascii()
    assert len(token) <= 300


@pytest.mark.parametrize(
    ("changed", "rejection"),
    [
        pytest.param({"caller": CallerId("playbooks")}, ReceiptRejection.OTHER_CALLER, id="caller"),
        pytest.param(
            {"actor": replace(CHECK["actor"], tenant_id=TenantId("umbrella"))},
            ReceiptRejection.OTHER_ACTOR,
            id="tenant",
        ),
        pytest.param(
            {"actor": replace(CHECK["actor"], user_id=UserId("bob"))},
            ReceiptRejection.OTHER_ACTOR,
            id="user",
        ),
        pytest.param(
            {"actor": replace(CHECK["actor"], session_id=SessionId("s-2"))},
            ReceiptRejection.OTHER_ACTOR,
            id="session",
        ),
        pytest.param(
            {"operation": OperationId("response.run_osquery")},
            ReceiptRejection.OTHER_OPERATION,
            id="operation",
        ),
        pytest.param({"target": "host-8:/etc/passwd"}, ReceiptRejection.OTHER_TARGET, id="target"),
        pytest.param({"target": ""}, ReceiptRejection.OTHER_TARGET, id="no target"),
    ],
)
def test_a_receipt_of_another_check_is_refused_by_what_differs(changed, rejection):
    assert checked_with(**changed) is rejection


def test_the_context_of_an_actor_is_not_bound():
    assert checked_with(actor=replace(CHECK["actor"], role=Role.MASTER_ADMINISTRATOR)) == RECEIPT


@pytest.mark.parametrize(
    ("same", "rejection"),
    [
        ((), ReceiptRejection.OTHER_CALLER),
        (("caller",), ReceiptRejection.OTHER_ACTOR),
        (("caller", "actor"), ReceiptRejection.OTHER_OPERATION),
        (("caller", "actor", "operation"), ReceiptRejection.OTHER_TARGET),
    ],
)
def test_the_first_difference_is_named_before_any_other_and_before_expiry(same, rejection):
    different = {
        "caller": CallerId("playbooks"),
        "actor": replace(CHECK["actor"], user_id=UserId("bob")),
        "operation": OperationId("response.run_osquery"),
        "target": "host-8",
    }
    binding = Binding.of(*{**different, **{name: CHECK[name] for name in same}}.values())

    assert checked(binding=binding, now=NOW + timedelta(days=1)) is rejection


@given(BINDINGS, BINDINGS)
def test_a_receipt_never_holds_for_another_binding(issued_for, presented_for):
    assume(issued_for != presented_for)

    assert checked(issue(RECEIPT, issued_for, KEYS), presented_for) != RECEIPT


@pytest.mark.parametrize("exemption", EXEMPTIONS)
@pytest.mark.parametrize(
    ("claims", "good"),
    [((), False), ({Claim.TIMED_OUT_RETRY}, False), (EXEMPTIONS, True), (set(Claim), True)],
)
def test_s16_a_receipt_that_an_exemption_earned_needs_its_claim_again(exemption, claims, good):
    earned = Receipt(RECEIPT.decision_id, Origin.of_exemption(exemption, NOW))
    found = checked(issue(earned, BINDING, KEYS), claims=claims)

    assert found == (earned if good else ReceiptRejection.EXEMPTION_NOT_CLAIMED)


@pytest.mark.parametrize(("exemption", "other"), [EXEMPTIONS, EXEMPTIONS[::-1]])
def test_s16_the_claim_of_another_exemption_does_not_serve(exemption, other):
    token = issue(Receipt(RECEIPT.decision_id, Origin.of_exemption(exemption, NOW)), BINDING, KEYS)

    assert checked(token, claims={other}) is ReceiptRejection.EXEMPTION_NOT_CLAIMED


def test_that_a_window_is_over_is_said_before_that_a_claim_is_missing():
    token = issue(
        Receipt(RECEIPT.decision_id, Origin.of_exemption(EXEMPTIONS[0], NOW)), BINDING, KEYS
    )

    assert checked(token, now=NOW + RETRY_WINDOW) is ReceiptRejection.EXPIRED


def elevation_of(enrollment_id="enrollment-1", verified_at=NOW):
    actor = CHECK["actor"]
    return Elevation(
        actor.tenant_id,
        actor.user_id,
        actor.session_hash,
        enrollment_id,
        verified_at,
        verified_at + LIFETIME,
    )


BY_A_CODE = Origin.of_elevation(elevation_of(), NOW + timedelta(minutes=10))
BY_AN_EXEMPTION = Origin.of_exemption(Claim.AUTOMATIC_PLAYBOOK, NOW)


@pytest.mark.parametrize(
    ("through", "revoked"), [(NOW - MICROSECOND, False), (NOW, True), (NOW + LIFETIME, True)]
)
def test_s10_a_revocation_voids_what_rests_on_a_code_received_up_to_then(through, revoked):
    assert BY_A_CODE.is_revoked(UserRevocations(through), "enrollment-1") is revoked


@given(INSTANTS, INSTANTS)
def test_s10_the_receipt_and_its_elevation_are_revoked_together(verified_at, through):
    elevation = elevation_of(verified_at=verified_at)
    origin = Origin.of_elevation(elevation, verified_at)
    revocations = Revocations()
    revocations.add(UserRevoked(elevation.tenant_id, elevation.user_id, through), 0)

    is_revoked = origin.is_revoked(UserRevocations(through), elevation.enrollment_id)
    assert is_revoked is revocations.void(elevation)


@pytest.mark.parametrize("active", [None, "enrollment-2"])
def test_s10_s28_what_rests_on_a_code_needs_its_enrollment_to_be_the_active_one(active):
    """However the enrollment was lost: a restored database has no end of it."""
    assert BY_A_CODE.is_revoked(UserRevocations(), active)


@pytest.mark.parametrize("active", [None, "enrollment-1", "enrollment-2"])
def test_s28_what_an_exemption_earned_needs_no_enrollment(active):
    assert not BY_AN_EXEMPTION.is_revoked(UserRevocations(), active)


def test_s10_the_end_of_the_authenticator_before_leaves_the_receipts_of_the_new_one():
    ended = UserRevocations(None, {"enrollment-0": NOW + LIFETIME})

    assert not BY_A_CODE.is_revoked(ended, "enrollment-1")


@pytest.mark.parametrize(
    ("instant", "revoked"),
    [(NOW - CLOCK_TOLERANCE - MICROSECOND, False), (NOW - CLOCK_TOLERANCE, True), (NOW, True)],
)
@pytest.mark.parametrize("how", ["revocation", "end"])
def test_s10_what_an_exemption_earned_is_void_too_by_clocks_that_differ(how, instant, revoked):
    ended = {"revocation": (instant, {}), "end": (None, {"enrollment-0": instant})}[how]

    assert BY_AN_EXEMPTION.is_revoked(UserRevocations(*ended), "enrollment-1") is revoked


def test_a_refused_receipt_that_is_authentic_names_its_decision():
    other_target = Binding.of(*{**CHECK, "target": "host-8"}.values())

    assert check(TOKEN, other_target, (), KEYS, NOW) == RefusedReceipt(
        ReceiptRejection.OTHER_TARGET, RECEIPT.decision_id
    )
    assert check(TOKEN, BINDING, (), KEYS, NOW + RETRY_WINDOW) == RefusedReceipt(
        ReceiptRejection.EXPIRED, RECEIPT.decision_id
    )


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(TOKEN[:-2] + "AA", id="another MAC"),
        pytest.param(TOKEN.rpartition(".")[0] + ".", id="no MAC"),
        pytest.param("2.k1.BBBBBBBB" + TOKEN[13:], id="another decision"),
    ],
)
def test_what_a_receipt_with_a_wrong_mac_names_is_not_believed(token):
    assert check(token, BINDING, (), KEYS, NOW) == RefusedReceipt(
        ReceiptRejection.NOT_AUTHENTIC, None
    )


def test_a_retry_has_an_hour_by_default():
    assert timedelta(minutes=60) == RETRY_WINDOW


@pytest.mark.parametrize(
    ("age", "found"),
    [
        (-CLOCK_TOLERANCE - MICROSECOND, ReceiptRejection.EXPIRED),
        (-CLOCK_TOLERANCE, RECEIPT),
        (timedelta(), RECEIPT),
        (RETRY_WINDOW - MICROSECOND, RECEIPT),
        (RETRY_WINDOW, ReceiptRejection.EXPIRED),
        (RETRY_WINDOW + MICROSECOND, ReceiptRejection.EXPIRED),
    ],
)
def test_a_receipt_is_valid_from_the_first_authorisation_to_the_end_of_the_window(age, found):
    assert checked(now=NOW + age) == found


def test_the_receipt_of_a_retry_ends_with_the_first_authorisations_window():
    retried_at = NOW + timedelta(minutes=59)
    of_the_retry = Receipt(UUID(int=2), checked(now=retried_at).origin)

    token = issue(of_the_retry, BINDING, KEYS)

    assert checked(token, now=NOW + RETRY_WINDOW) is ReceiptRejection.EXPIRED


def test_a_receipt_under_an_older_key_of_the_ring_is_valid():
    ring = MacKeys("k2", {"k2": b"2" * 32, "k1": b"1" * 32})

    assert checked(keys=ring) == RECEIPT


def test_a_receipt_under_a_key_that_left_the_ring_is_not_authentic():
    ring = MacKeys("k2", {"k2": b"2" * 32})

    assert checked(keys=ring) is ReceiptRejection.NOT_AUTHENTIC


def test_a_receipt_under_another_key_of_the_same_id_is_not_authentic():
    ring = MacKeys("k1", {"k1": b"2" * 32})

    assert checked(keys=ring) is ReceiptRejection.NOT_AUTHENTIC


def test_a_receipt_that_names_another_key_of_the_ring_is_not_authentic():
    ring = MacKeys("k1", {"k1": b"1" * 32, "k2": b"2" * 32})

    assert checked(TOKEN.replace("k1", "k2"), keys=ring) is ReceiptRejection.NOT_AUTHENTIC


def test_the_id_of_a_key_may_have_dots():
    ring = MacKeys("2026.03", {"2026.03": b"1" * 32})

    assert checked(issue(RECEIPT, BINDING, ring), keys=ring) == RECEIPT


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(string.printable) | st.characters())
def test_with_any_character_changed_a_receipt_is_not_authentic(position, character):
    assume(character != TOKEN[position])
    forged = TOKEN[:position] + character + TOKEN[position + 1 :]

    assert checked(forged) is ReceiptRejection.NOT_AUTHENTIC


@pytest.mark.parametrize("position", range(len(TOKEN)))
def test_with_a_character_missing_a_receipt_is_not_authentic(position):
    shortened = TOKEN[:position] + TOKEN[position + 1 :]

    assert checked(shortened) is ReceiptRejection.NOT_AUTHENTIC


def test_no_second_spelling_of_the_mac_is_accepted():
    # The last of 43 characters carries two bits that decoders ignore.
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    others = set(alphabet) - {TOKEN[-1]}

    assert {checked(TOKEN[:-1] + other) for other in others} == {ReceiptRejection.NOT_AUTHENTIC}


@pytest.mark.parametrize(
    "spelling", [f"{TOKEN}=", f" {TOKEN}", f"{TOKEN}\n", TOKEN.upper(), f"{TOKEN}.", f".{TOKEN}"]
)
def test_no_other_spelling_of_a_receipt_is_accepted(spelling):
    assert checked(spelling) is ReceiptRejection.NOT_AUTHENTIC


@pytest.mark.parametrize("version", ["1", "3", "02"])
def test_a_receipt_of_another_version_is_not_authentic_whoever_signed_it(version):
    token = signed(version + TOKEN.rpartition(".")[0][1:])

    assert checked(token) is ReceiptRejection.NOT_AUTHENTIC


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("", id="empty"),
        pytest.param("A", id="no base64"),
        pytest.param("A" * 149, id="no base64 of the right length"),
        pytest.param("A" * 150, id="a byte short"),
        pytest.param("A" * 152, id="a byte long"),
    ],
)
def test_an_authentic_payload_of_another_layout_is_not_authentic_as_a_receipt(payload):
    assert checked(signed(f"2.k1.{payload}")) is ReceiptRejection.NOT_AUTHENTIC


@given(st.text() | st.text().map("2.k1.{}".format))
def test_whatever_text_is_presented_it_is_not_authentic(text):
    assert checked(text) is ReceiptRejection.NOT_AUTHENTIC


USED = Redemption(UUID(int=1), NOW, UUID(int=2), 3)


@pytest.mark.parametrize(
    ("again", "is_shared"),
    [
        (replace(USED, decision_id=UUID(int=9)), True),
        (replace(USED, redeemed_at=NOW + timedelta(seconds=59.999999)), True),
        (replace(USED, redeemed_at=NOW - timedelta(seconds=59.999999)), True),
        (replace(USED, redeemed_at=NOW + timedelta(minutes=1)), False),
        (replace(USED, redeemed_at=NOW - timedelta(minutes=1)), False),
        (replace(USED, request_id=UUID(int=9)), False),
        (replace(USED, request_id=None), False),
        (replace(USED, index=4), False),
    ],
)
def test_a_redemption_is_shared_with_the_same_check_within_a_minute(again, is_shared):
    assert USED.is_shared_with(again) is is_shared


def test_a_redemption_of_a_request_without_a_name_is_shared_with_none():
    unnamed = replace(USED, request_id=None)
    assert not unnamed.is_shared_with(unnamed)
