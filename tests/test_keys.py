"""The key ring: purposes apart, seals bound to their place, files that are ours alone."""

import json
import os
import stat
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import ResetCodeRecord, SealedSecret
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.keys import KeyRing, KeyRingError
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


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


def write(path, document, mode=0o600):
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text)
    path.chmod(mode)


def a_record(ring, enrollment_id="e-1"):
    key_id, digest = ring.digest_reset_code(CODE, enrollment_id)
    return ResetCodeRecord(ACME, ANN, enrollment_id, key_id, digest)


def test_a_sealed_secret_opens(ring):
    sealed = ring.seal(SECRET, ACME, ANN, "e-1")
    assert ring.open(sealed, ACME, ANN, "e-1") == SECRET


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


def test_a_reset_code_is_recognised(ring):
    assert ring.is_reset_code(CODE, a_record(ring))


def test_another_reset_code_is_not(ring):
    assert not ring.is_reset_code(ResetCode(bytes(15) + b"\1"), a_record(ring))


def test_a_reset_code_is_of_one_enrollment(ring):
    assert not ring.is_reset_code(CODE, replace(a_record(ring), enrollment_id="e-2"))


def test_a_reset_code_of_an_older_key_is_recognised(ring, rotated):
    assert rotated.is_reset_code(CODE, a_record(ring))
    assert a_record(rotated).key_id == "new"


def test_a_reset_code_of_a_key_that_is_gone_is_not(ring, rotated):
    assert not ring.is_reset_code(CODE, a_record(rotated))


def test_equal_requests_have_equal_fingerprints(ring):
    assert ring.fingerprint("a", "b") == ring.fingerprint("a", "b")
    assert len(ring.fingerprint("a", "b")) == 32


@pytest.mark.parametrize("parts", [("ab",), ("", "ab"), ("ab", ""), ("b", "a"), ("a", "b", "")])
def test_different_requests_have_different_fingerprints(ring, parts):
    assert ring.fingerprint(*parts) != ring.fingerprint("a", "b")


def test_a_fingerprint_needs_the_key(ring, rotated):
    assert ring.fingerprint("a") != rotated.fingerprint("a")


def test_no_key_of_one_purpose_serves_another(ring):
    keys = [OLD, ring.receipts.keys["old"], ring.page_tokens.keys["old"]]
    assert len(set(keys)) == 3
    digests = [ring.fingerprint("x"), ring.digest_reset_code(CODE, "x")[1]]
    assert len(set(digests)) == 2


def test_mac_keys_are_of_the_whole_ring(rotated):
    for keys in (rotated.receipts, rotated.page_tokens):
        assert keys.primary == "new"
        assert keys.keys.keys() == {"old", "new"}


def test_derived_keys_stay_the_same_between_versions(ring):
    """Changing a derivation would lock everybody out."""
    sealed = SealedSecret("old", bytes.fromhex(SEALED_BY_THE_FIRST_VERSION))
    assert ring.open(sealed, ACME, ANN, "e-1") == SECRET
    assert ring.receipts.keys["old"].hex() == RECEIPT_KEY_OF_THE_FIRST_VERSION
    assert ring.digest_reset_code(CODE, "e-1")[1].hex() == RESET_CODE_OF_THE_FIRST_VERSION


SEALED_BY_THE_FIRST_VERSION = (
    "d05e074a64cbc816ee30e832912afef1fcfea490e15ad276"
    "6adb16c04a2ce82bd236d2db66fb9ff66b94e0af6671eeda"
)
RECEIPT_KEY_OF_THE_FIRST_VERSION = (
    "7a7b65799bcd0d2dc7bb6444de290880f5b52271036f71ce93b2ff1f3c5f7a3e"
)
RESET_CODE_OF_THE_FIRST_VERSION = "d6d73a5e28c3fea7bcdd023e4a59f15c12ce4d2ee55d3759263e8e0902282f26"


def test_a_ring_shows_its_ids_only(rotated):
    assert repr(rotated) == "KeyRing(primary='new', ids=['new', 'old'])"
    assert str(rotated) == repr(rotated)


def test_fresh_rings_differ():
    assert KeyRing.generate().fingerprint("x") != KeyRing.generate().fingerprint("x")


def test_a_ring_reads_back_what_was_written(path, rotated):
    rotated.write(path)
    loaded = KeyRing.load(path)
    assert repr(loaded) == repr(rotated)
    assert loaded.open(rotated.seal(SECRET, ACME, ANN, "e-1"), ACME, ANN, "e-1") == SECRET


def test_a_written_file_is_ours_alone(path, ring):
    umask = os.umask(0)
    try:
        ring.write(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_writing_never_replaces_a_ring(path, ring, rotated):
    ring.write(path)
    with pytest.raises(KeyRingError, match="there is such a file"):
        rotated.write(path)
    assert repr(KeyRing.load(path)) == repr(ring)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path, ring):
    with pytest.raises(KeyRingError, match=r"keys\.json: cannot be written"):
        ring.write(tmp_path / "none" / "keys.json")


def test_a_ring_is_created_once(path):
    created = KeyRing.load_or_create(path)
    assert KeyRing.load_or_create(path).fingerprint("x") == created.fingerprint("x")


@pytest.mark.race
def test_of_parallel_creations_all_get_one_ring(path):
    with ThreadPoolExecutor(16) as pool:
        rings = list(pool.map(lambda _: KeyRing.load_or_create(path), range(16)))
    assert len({ring.fingerprint("x") for ring in rings}) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_missing_is_named(path):
    with pytest.raises(KeyRingError, match=r"keys\.json: there is no such file"):
        KeyRing.load(path)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(KeyRingError, match="cannot be read: Is a directory"):
        KeyRing.load(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(path, ring, mode):
    ring.write(path)
    path.chmod(mode)
    with pytest.raises(KeyRingError, match="set its mode to 0600"):
        KeyRing.load_or_create(path)


KEY = b64encode(OLD).decode()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("", "is no JSON"),
        (f'{{"primary": "a", "keys": {{"a": "{KEY}"', "is no JSON"),
        (b"\xff".decode("latin-1"), "is no JSON"),
        ([KEY], "primary"),
        ({"keys": {"a": KEY}}, "primary"),
        ({"primary": 1, "keys": {"a": KEY}}, "primary"),
        ({"primary": "b", "keys": {"a": KEY}}, "primary"),
        ({"primary": "a", "keys": {}}, "primary"),
        ({"primary": "a", "keys": [KEY]}, "keys"),
        ({"primary": "a", "keys": {"a": 1}}, r"keys\.a"),
        ({"primary": "a", "keys": {"a": KEY[:-4]}}, r"keys\.a"),
        ({"primary": "a", "keys": {"a": KEY + "!"}}, r"keys\.a"),
        ({"primary": "a.b", "keys": {"a.b": KEY}}, "keys: an id"),
        ({"primary": "", "keys": {"": KEY}}, "keys: an id"),
        ({"primary": "a" * 65, "keys": {"a" * 65: KEY}}, "keys: an id"),
        ({"primary": "a", "keys": {"a": KEY, KEY: "a"}}, "keys: an id"),
        ({"primary": "a", "keys": {"a": KEY}, "more": 1}, "only"),
        (f'{{"primary": "a", "keys": {{"a": "{KEY}", "a": "{KEY}"}}}}', "twice"),
    ],
)
def test_a_malformed_file_is_refused_without_a_word_of_its_keys(path, document, field):
    """S11"""
    write(path, document)
    with pytest.raises(KeyRingError, match=field) as raised:
        KeyRing.load(path)
    error = raised.value
    assert str(path) in str(error)
    while error is not None:
        assert KEY[:16] not in str(error)
        assert not hasattr(error, "doc")  # JSONDecodeError's: all of the text
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
