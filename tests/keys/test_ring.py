"""The key ring: purposes apart, seals bound to their place (S6, S8)."""

from dataclasses import replace

import pytest
from stepup_tests.keys import fresh_ring
from stepup_tests.metrics import metric
from structlog.testing import capture_logs

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.keys.ring import KeyRing
from stepup.service.ports import SealBrokenError

ACME, ANN = TenantId("acme"), UserId("ann")
SECRET = TotpSecret(bytes(range(20)))
OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CODE = ResetCode(bytes(16))


@pytest.fixture
def ring():
    return KeyRing("old", {"old": OLD})


@pytest.fixture
def rotated():
    return KeyRing("new", {"old": OLD, "new": NEW})


def a_record(ring):
    return ring.record_reset_code(CODE, ACME, ANN, "e-1")


def test_a_sealed_secret_does_not_show_the_secret(ring):
    assert SECRET.octets not in ring.seal(SECRET, ACME, ANN, "e-1").ciphertext


def test_no_two_seals_are_alike(ring):
    seals = {ring.seal(SECRET, ACME, ANN, "e-1").ciphertext for _ in range(100)}
    assert len(seals) == 100


@pytest.mark.parametrize(
    "place",
    [
        (TenantId("other"), ANN, "e-1"),
        (ACME, UserId("other"), "e-1"),
        (ACME, ANN, "e-2"),
        (TenantId("acm"), UserId("eann"), "e-1"),
        (ACME, UserId("anne"), "-1"),
    ],
    ids=["tenant", "user", "enrollment", "tenant and user shifted", "user and enrollment shifted"],
)
def test_a_seal_opens_in_its_own_place_only(ring, place):
    sealed = ring.seal(SECRET, ACME, ANN, "e-1")
    with pytest.raises(SealBrokenError):
        ring.open(sealed, *place)


def test_a_seal_opens_under_its_own_key_id_only():
    """Even where two ids have the same key."""
    ring = KeyRing("one", {"one": OLD, "other": OLD})
    sealed = ring.seal(SECRET, ACME, ANN, "e-1")
    with pytest.raises(SealBrokenError):
        ring.open(replace(sealed, key_id="other"), ACME, ANN, "e-1")


def test_an_altered_byte_breaks_the_seal(ring):
    sealed = ring.seal(SECRET, ACME, ANN, "e-1")
    for position in range(len(sealed.ciphertext)):
        altered = bytearray(sealed.ciphertext)
        altered[position] ^= 1
        with pytest.raises(SealBrokenError):
            ring.open(replace(sealed, ciphertext=bytes(altered)), ACME, ANN, "e-1")


@pytest.mark.parametrize("length", [0, 1, 12, 27, 47, 49])
def test_a_seal_of_another_length_is_broken(ring, length):
    ciphertext = (ring.seal(SECRET, ACME, ANN, "e-1").ciphertext + b"\0")[:length]
    with pytest.raises(SealBrokenError):
        ring.open(SealedSecret("old", ciphertext), ACME, ANN, "e-1")


def test_a_key_that_is_not_in_the_ring_opens_nothing(rotated, ring):
    sealed = rotated.seal(SECRET, ACME, ANN, "e-1")
    with pytest.raises(SealBrokenError, match="'new'"):
        ring.open(sealed, ACME, ANN, "e-1")


def test_what_an_older_key_sealed_still_opens(rotated, ring):
    sealed = ring.seal(SECRET, ACME, ANN, "e-1")
    assert rotated.open(sealed, ACME, ANN, "e-1") == SECRET
    assert rotated.seal(SECRET, ACME, ANN, "e-1").key_id == "new"


@pytest.mark.parametrize(
    "place",
    [{"tenant_id": TenantId("other")}, {"user_id": UserId("bob")}, {"enrollment_id": "e-2"}],
)
def test_s8_a_reset_code_is_recognised_in_its_own_place_only(ring, place):
    with pytest.raises(SealBrokenError):
        ring.is_reset_code(CODE, replace(a_record(ring), **place))


def test_s8_a_reset_codes_digest_has_a_key_of_its_own(ring):
    """A table of the digests of codes is of no use, not even for one who has the ring."""
    records = [a_record(ring) for _ in range(100)]
    assert len({record.digest for record in records}) == 100
    assert CODE.octets not in records[0].digest + records[0].sealed_key.ciphertext


def test_s8_a_reset_codes_key_is_no_secret_and_a_secret_is_no_such_key(ring):
    """Whoever moves what is sealed from one column to another gets nothing."""
    with pytest.raises(SealBrokenError):
        ring.open(a_record(ring).sealed_key, ACME, ANN, "e-1")
    moved = replace(a_record(ring), sealed_key=ring.seal(SECRET, ACME, ANN, "e-1"))
    with pytest.raises(SealBrokenError):
        ring.is_reset_code(CODE, moved)


def test_s8_a_reset_code_is_resealed_without_the_code(ring, rotated):
    record = a_record(ring)
    resealed = rotated.reseal_reset_code(record)
    assert (record.sealed_key.key_id, resealed.sealed_key.key_id) == ("old", "new")
    only_new = KeyRing("new", {"new": NEW})
    assert only_new.is_reset_code(CODE, resealed)
    assert not only_new.is_reset_code(ResetCode(bytes(15) + b"\1"), resealed)
    assert resealed == replace(record, sealed_key=resealed.sealed_key)


def test_s6_s8_what_cannot_be_opened_is_an_alert_that_says_which(ring, rotated):
    """And an error of its own, which is no answer to anybody."""
    sealed = rotated.seal(SECRET, ACME, ANN, "e-1")
    broken = replace(a_record(ring), enrollment_id="e-2")
    alerts = metric("stepup_sealed_secret_unreadable_total")
    with capture_logs() as lines:
        with pytest.raises(SealBrokenError) as raised:
            ring.open(sealed, ACME, ANN, "e-1")
        with pytest.raises(SealBrokenError):
            ring.is_reset_code(CODE, broken)
    assert [
        (line["event"], line["log_level"], line["tenant"], line["user"], line["enrollment"])
        for line in lines
    ] == [
        ("sealed_secret_unreadable", "error", "acme", "ann", "e-1"),
        ("sealed_secret_unreadable", "error", "acme", "ann", "e-2"),
    ]
    assert metric("stepup_sealed_secret_unreadable_total") == alerts + 2
    error = raised.value
    assert (error.tenant_id, error.user_id, error.enrollment_id) == (ACME, ANN, "e-1")
    assert SECRET.base32 not in repr(lines)


def test_a_reset_code_of_an_older_key_is_recognised(ring, rotated):
    assert rotated.is_reset_code(CODE, a_record(ring))
    assert a_record(rotated).sealed_key.key_id == "new"


def test_a_reset_code_of_a_key_that_is_gone_is_no_wrong_code(ring, rotated):
    with pytest.raises(SealBrokenError, match="'new'"):
        ring.is_reset_code(CODE, a_record(rotated))


def test_a_fingerprint_needs_the_key(ring):
    assert ring.fingerprint("a") != KeyRing("new", {"new": NEW}).fingerprint("a")


def test_s6_a_request_is_recognised_across_a_rotation(ring, rotated):
    """Or a resend during a rotation would be refused as another request."""
    assert ring.fingerprint("a") == rotated.fingerprint("a")


def test_no_key_of_one_purpose_serves_another(ring):
    keys = [
        OLD,
        ring.receipts.keys["old"],
        ring.page_tokens.keys["old"],
        ring.stored_values.keys["old"],
    ]
    assert len(set(keys)) == 4


def test_mac_keys_are_of_the_whole_ring(rotated):
    for keys in (rotated.receipts, rotated.page_tokens, rotated.stored_values):
        assert keys.primary == "new"
        assert keys.keys.keys() == {"old", "new"}


def test_derived_keys_stay_the_same_between_versions(ring):
    """Changing a derivation would lock everybody out."""
    sealed = SealedSecret("old", bytes.fromhex(SEALED_BY_THE_FIRST_VERSION))
    assert ring.open(sealed, ACME, ANN, "e-1") == SECRET
    assert ring.receipts.keys["old"].hex() == RECEIPT_KEY_OF_THE_FIRST_VERSION
    record = ResetCodeRecord(
        ACME,
        ANN,
        "e-1",
        SealedSecret("old", bytes.fromhex(RESET_CODE_KEY_OF_THE_FIRST_VERSION)),
        bytes.fromhex(RESET_CODE_OF_THE_FIRST_VERSION),
    )
    assert ring.is_reset_code(CODE, record)
    assert ring.fingerprint("a").hex() == FINGERPRINT_OF_THE_FIRST_VERSION


SEALED_BY_THE_FIRST_VERSION = (
    "d05e074a64cbc816ee30e832912afef1fcfea490e15ad276"
    "6adb16c04a2ce82bd236d2db66fb9ff66b94e0af6671eeda"
)
RECEIPT_KEY_OF_THE_FIRST_VERSION = (
    "7a7b65799bcd0d2dc7bb6444de290880f5b52271036f71ce93b2ff1f3c5f7a3e"
)
RESET_CODE_KEY_OF_THE_FIRST_VERSION = (
    "ad5fc27274940af60d46e00b9b43832f43050423bf12c9658d02b4341765"
    "ac97298b17fb5dd4796c976d77936a9867911e570ca1686eefb7195418cd"
)
RESET_CODE_OF_THE_FIRST_VERSION = "ff1a7ec03603048d548a8c673e1b341afcbc7e6bd715bcf12f1991b07b473366"
FINGERPRINT_OF_THE_FIRST_VERSION = (
    "326dd5ac8d0705b551c3688fbff8940cc4ec4e5d0051ea741a664d6ee21d30cd"
)


def test_a_ring_shows_its_ids_only(rotated):
    assert repr(rotated) == "KeyRing(primary='new', ids=['new', 'old'])"
    assert str(rotated) == repr(rotated)


def test_fresh_rings_differ():
    assert fresh_ring().fingerprint("x") != fresh_ring().fingerprint("x")
