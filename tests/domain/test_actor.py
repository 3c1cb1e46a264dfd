"""The person an action is done for; what of it is a claim (S16)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepup.domain.actor import (
    Actor,
    CallerId,
    OpaqueId,
    RetryReceipt,
    SessionId,
    TenantId,
    UserId,
    folded,
)
from stepup.domain.errors import InvalidValueError

ACTOR = Actor(TenantId("acme"), UserId("ada"), SessionId("s-1"))
IDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", [OpaqueId, TenantId, UserId, CallerId, SessionId])
def test_an_id_is_kept_as_it_is(kind):
    assert kind(" Ada/~!\\ ") == " Ada/~!\\ "


@pytest.mark.parametrize("longest", ["x" * 128, " ", "~"])
def test_an_id_has_1_to_128_bytes_from_space_to_tilde(longest):
    assert OpaqueId(longest) == longest


def test_an_empty_id_is_missing():
    with pytest.raises(InvalidValueError, match=r"^is required$"):
        OpaqueId("")


@pytest.mark.parametrize(
    "malformed", ["x" * 129, "a\nb", "a\n", "\0", "\x1f", "\x7f", "caf\u00e9", "\u00a0", "\uff11"]
)
def test_an_id_with_another_character_or_length_is_refused(malformed):
    with pytest.raises(InvalidValueError, match=r"^must be 1 to 128 bytes of printable ASCII$"):
        OpaqueId(malformed)


def test_a_receipt_as_presented_has_at_most_512_bytes():
    assert RetryReceipt("x" * 512).token == "x" * 512


@pytest.mark.parametrize("too_long", ["x" * 513, "\u00e9" * 257])
def test_a_receipt_is_measured_in_bytes(too_long):
    with pytest.raises(InvalidValueError, match=r"^must be at most 512 bytes$"):
        RetryReceipt(too_long)


def test_the_session_hash_is_128_bits_in_hexadecimal_and_stays_what_it_is():
    assert ACTOR.session_hash == "88b706a901e6004054c5153a0a1014f3"


@pytest.mark.parametrize(
    "other",
    [
        {"tenant_id": TenantId("umbrella")},
        {"user_id": UserId("bob")},
        {"session_id": SessionId("s-2")},
    ],
)
def test_the_session_hash_is_of_one_tenant_user_and_session(other):
    assert replace(ACTOR, **other).session_hash != ACTOR.session_hash


@given(st.tuples(IDS, IDS, IDS), st.integers(min_value=1), st.integers(min_value=1))
def test_no_shift_of_letters_between_the_ids_gives_the_same_session_hash(ids, first, second):
    whole = "".join(ids)
    shifted = (whole[:first], whole[first : first + second], whole[first + second :])
    if shifted == ids or not all(shifted):
        return

    hashes = {
        Actor(TenantId(tenant), UserId(user), SessionId(session)).session_hash
        for tenant, user, session in (ids, shifted)
    }

    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("given", "kept"), [("Acme-7", "acme-7"), ("acme", "acme"), ("\u212aim", "\u212aim")]
)
def test_only_ascii_is_folded(given, kept):
    assert folded(given) == kept
