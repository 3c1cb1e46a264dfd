"""A ring that follows its file: a server takes part in a rotation without a restart."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests import vault as fake
from stepup_tests.clock import ManualClock
from stepup_tests.keys import ring_in
from structlog.testing import capture_logs

from stepup.domain.actor import TenantId, UserId
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import TotpSecret
from stepup.keys.file import KeyFile
from stepup.keys.following import RETRY_SECONDS, ReloadingKeys
from stepup.keys.source import KeySource

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = (TenantId("acme"), UserId("ann"), "e-1")
SECRET = TotpSecret(bytes(range(20)))
CODE = ResetCode(bytes(16))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys.json"
    KeySource(path).create(KeyFile.generated(NOW))
    return path


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def failures():
    return []


@pytest.fixture
def keys(path, clock, failures):
    return ReloadingKeys(KeySource(path), clock, on_failure=lambda: failures.append(1))


def rotated(path, *, reads_it=True):
    """Rotate the file as an operator does; returns the ring that is in it then, or its primary."""
    later = NOW + timedelta(seconds=1)
    staged = KeySource(path).edit(lambda file: file.staging(later))
    KeySource(path).edit(lambda file: file.promoting(staged.staged, later))
    return ring_in(path) if reads_it else staged.staged


def test_s6_a_rotation_is_followed_within_a_second(path, clock, keys):
    ring = rotated(path)
    clock.advance(seconds=0.9)
    assert keys.primary != ring.primary
    clock.advance(seconds=0.1)
    assert keys.primary == ring.primary
    assert keys.seal(SECRET, *PLACE).key_id == ring.primary
    assert keys.record_reset_code(CODE, *PLACE).sealed_key.key_id == ring.primary
    assert keys.receipts.primary == keys.page_tokens.primary == ring.primary


def test_s6_what_another_server_sealed_by_a_newer_key_opens_at_once(path, keys):
    sealed = rotated(path).seal(SECRET, *PLACE)
    assert keys.open(sealed, *PLACE) == SECRET


def test_s8_so_does_a_reset_code(path, keys):
    record = rotated(path).record_reset_code(CODE, *PLACE)
    assert keys.is_reset_code(CODE, record)


def test_s8_so_is_one_resealed(path, keys):
    ring = rotated(path)
    record = ring.record_reset_code(CODE, *PLACE)
    assert ring.is_reset_code(CODE, keys.reseal_reset_code(record))


def test_a_token_of_a_newer_key_is_looked_for(path, clock, keys):
    ring = rotated(path)
    clock.advance(seconds=0.1)
    keys.refresh_for(ring.primary)
    assert keys.receipts == ring.receipts
    assert keys.page_tokens == ring.page_tokens
    assert keys.stored_values == ring.stored_values


def test_made_up_tokens_do_not_cause_a_look_each(path, clock, keys):
    clock.advance(seconds=0.1)
    keys.refresh_for("made-up")
    ring = rotated(path)
    clock.advance(seconds=0.09)
    keys.refresh_for(ring.primary)
    assert ring.primary not in keys.receipts.keys
    clock.advance(seconds=0.01)
    keys.refresh_for(ring.primary)
    assert ring.primary in keys.receipts.keys


def test_a_request_is_recognised_across_a_rotation(path, clock, keys):
    before = keys.fingerprint("a")
    rotated(path)
    clock.advance(seconds=1)
    assert keys.fingerprint("a") == before


def test_a_file_that_did_not_change_is_not_read(path, clock, keys, monkeypatch):
    monkeypatch.setattr(KeySource, "read", None)
    clock.advance(seconds=1)
    assert keys.primary == json.loads(path.read_text())["primary"]


def test_a_reload_is_logged_without_keys(path, clock, keys):
    ring = rotated(path)
    clock.advance(seconds=1)
    with capture_logs() as lines:
        assert keys.primary == ring.primary
    assert [line["event"] for line in lines] == ["key_ring_reloaded"]
    assert repr(ring) in repr(keys)


BREAKAGES = {
    "cut off": lambda path: path.write_text(path.read_text()[:-20]),
    "empty": lambda path: path.write_text(""),
    "for others to read": lambda path: path.chmod(0o644),
    "gone": lambda path: path.unlink(),
    "without its primary key": lambda path: path.write_text('{"primary": "x", "keys": {}}'),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_s6_a_broken_file_keeps_the_old_ring(path, clock, keys, failures, breakage):
    """It is logged once, and counted."""
    sealed = keys.seal(SECRET, *PLACE)
    breakage(path)
    with capture_logs() as lines:
        for _ in range(4):
            clock.advance(seconds=1)
            assert keys.open(sealed, *PLACE) == SECRET
    assert [line["event"] for line in lines] == ["key_ring_not_reloaded"]
    assert lines[0]["log_level"] == "error"
    assert str(path) in lines[0]["problem"]
    assert failures == [1]


def test_a_file_that_was_mended_is_read(path, clock, keys):
    text = path.read_text()
    path.write_text("")
    clock.advance(seconds=1)
    assert keys.primary in text
    path.write_text(text)
    ring = rotated(path)
    clock.advance(seconds=1)
    assert keys.primary == ring.primary


def test_a_link_that_is_replaced_is_followed(tmp_path, clock):
    """As Kubernetes replaces the files of a secret."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        KeySource(tmp_path / name / "keys.json").create(KeyFile.generated(NOW))
    data = tmp_path / "..data"
    data.symlink_to("one")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    keys = ReloadingKeys(KeySource(tmp_path / "keys.json"), clock)
    before = keys.primary
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(data)
    clock.advance(seconds=1)
    assert keys.primary != before


@pytest.fixture
def vault(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", fake.TOKEN)
    with fake.running() as running:
        monkeypatch.setenv("VAULT_ADDR", running.address)
        yield running


@pytest.fixture
def wrapped(vault, tmp_path):
    path = tmp_path / "wrapped.json"
    KeySource(path).create(KeyFile.generated(NOW, f"vault:{vault.mount}/stepup"))
    return path


@pytest.fixture
def following(wrapped, clock, failures):
    return ReloadingKeys(KeySource(wrapped), clock, on_failure=lambda: failures.append(1))


def unwrapped():
    """Wait for the thread that asks Vault."""
    for thread in threading.enumerate():
        if thread.name == "stepup-unwrap":
            thread.join()


def test_s6_nobody_waits_while_vault_unwraps_a_new_key(vault, wrapped, clock, following):
    ring = rotated(wrapped)
    vault.silent = True
    clock.advance(seconds=1)
    assert following.primary != ring.primary
    vault.silent = False
    vault.go_on.set()
    unwrapped()
    assert following.primary == ring.primary


def test_s17_no_call_waits_for_vault_what_needs_the_new_key_is_unavailable(
    vault, wrapped, following
):
    ring = rotated(wrapped)
    sealed, record = ring.seal(SECRET, *PLACE), ring.record_reset_code(CODE, *PLACE)
    vault.silent = True
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="unwrapped"):
            following.open(sealed, *PLACE)
        with pytest.raises(StoreUnavailableError):
            following.is_reset_code(CODE, record)
        with pytest.raises(StoreUnavailableError):
            following.reseal_reset_code(record)
    vault.silent = False
    vault.go_on.set()
    unwrapped()
    assert following.open(sealed, *PLACE) == SECRET
    assert following.is_reset_code(CODE, record)


def test_s17_what_a_sealed_vault_cannot_unwrap_is_unavailable_and_not_tampered_with(
    vault, wrapped, following
):
    sealed = rotated(wrapped).seal(SECRET, *PLACE)
    vault.sealed = True
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            following.open(sealed, *PLACE)
        unwrapped()


def test_a_key_that_is_unwrapped_is_not_asked_for_again(vault, wrapped, clock, following):
    rotated(wrapped)
    vault.requests.clear()
    clock.advance(seconds=1)
    assert following.primary
    unwrapped()
    assert len(vault.requests) == 1


def test_s6_while_vault_is_sealed_the_old_ring_stays(vault, wrapped, clock, following, failures):
    """It is asked again now and then, though the file has not changed."""
    ring = rotated(wrapped)
    vault.sealed = True
    with capture_logs() as lines:
        for _ in range(7):
            clock.advance(seconds=1)
            assert following.primary != ring.primary
            unwrapped()
        vault.sealed = False
        for _ in range(5):
            clock.advance(seconds=1)
            assert following.primary
            unwrapped()
    assert following.primary == ring.primary
    assert failures == [1, 1]
    assert [line["event"] for line in lines] == ["key_ring_not_reloaded", "key_ring_reloaded"]


def test_of_two_changes_the_later_one_stays(vault, wrapped, clock, following):
    """Though the first one's key is unwrapped last."""
    first = rotated(wrapped)
    vault.silent = True
    clock.advance(seconds=1)
    assert following.primary != first.primary
    plain = KeyFile.generated(NOW)
    old = KeySource(wrapped).read()
    keys = {**plain.keys, **{id_: old.keys[id_] for id_ in old.keys if id_ == following.primary}}
    KeySource(wrapped).edit(lambda file: replace(file, primary=plain.primary, keys=keys))
    clock.advance(seconds=1)
    assert following.primary == plain.primary
    vault.go_on.set()
    unwrapped()
    assert following.primary == plain.primary


def test_s17_a_bug_while_a_key_is_unwrapped_does_not_end_the_following(
    wrapped, clock, following, failures, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(KeyFile, "material", broken)
        ring = rotated(wrapped, reads_it=False)
        clock.advance(seconds=1)
        assert following.primary != ring
        unwrapped()
        assert failures
    clock.advance(seconds=RETRY_SECONDS)
    following.primary  # noqa: B018  # a look
    unwrapped()
    assert following.primary == ring


def broken(*_):
    raise RuntimeError("a bug")
