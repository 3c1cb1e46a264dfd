"""The file of a key ring: ours alone, in full or not at all, and never a word of its keys."""

import json
import os
import stat
import threading
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from stepup_tests.clock import ManualClock
from stepup_tests.keys import ring_in

from stepup.domain.actor import TenantId, UserId
from stepup.domain.totp import TotpSecret
from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.following import ReloadingKeys
from stepup.keys.ring import KeyRing
from stepup.keys.source import KeySource
from stepup.system import private_files

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLACE = (TenantId("acme"), UserId("ann"), "e-1")
SECRET = TotpSecret(bytes(range(20)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


@pytest.fixture
def file(path):
    """A ring of one key, in its file."""
    file = KeyFile.generated(NOW)
    KeySource(path).create(file)
    return file


def write(path, document, mode=0o600):
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text)
    path.chmod(mode)


def test_a_ring_reads_back_what_was_written(path):
    written = KeyFile.generated(NOW).staging(NOW)
    written = written.promoting(written.staged, NOW + timedelta(minutes=1))
    KeySource(path).create(written)
    assert KeySource(path).read() == written
    sealed = KeyRing.of(written).seal(SECRET, *PLACE)
    assert ring_in(path).open(sealed, *PLACE) == SECRET


def test_s11_a_file_never_shows_its_keys(file):
    [entry] = file.keys.values()
    assert repr(entry.key) not in repr(file)
    assert b64encode(entry.key).decode() not in repr(file) + str(file)


def test_a_written_file_is_ours_alone(path):
    umask = os.umask(0)
    try:
        KeySource(path).create(KeyFile.generated(NOW))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_creating_never_replaces_a_ring(path, file):
    with pytest.raises(FileExistsError):
        KeySource(path).create(KeyFile.generated(NOW))
    assert KeySource(path).read() == file
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(KeyRingError, match=r"keys\.json: cannot be written"):
        KeySource(tmp_path / "none" / "keys.json").create(KeyFile.generated(NOW))


@pytest.mark.race
def test_of_parallel_creations_all_get_one_ring(path):
    with ThreadPoolExecutor(16) as pool:
        source = KeySource(path)
        files = list(pool.map(lambda _: source.create_if_missing(NOW) or source.read(), range(16)))
    assert len({file.primary for file in files}) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_missing_is_named(path):
    with pytest.raises(KeyRingError, match=r"keys\.json: the file does not exist"):
        ReloadingKeys(KeySource(path), ManualClock())


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("mode", [0o640, 0o440, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(path, mode):
    path.chmod(mode)
    with pytest.raises(KeyRingError, match="set its mode to 0600"):
        ring_in(path)


@pytest.mark.parametrize("mode", [0o640, 0o440, 0o600, 0o400])
def test_where_it_is_asked_for_the_group_may_read(path, file, mode):
    path.chmod(mode)
    assert repr(KeySource(path, group_readable=True).ring()) == repr(KeyRing.of(file))


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o650, 0o604])
def test_nobody_else_may_and_the_group_no_more(path, mode):
    path.chmod(mode)
    with pytest.raises(KeyRingError, match="set its mode to 0640 or 0440"):
        KeySource(path, group_readable=True).ring()


KEY = b64encode(bytes(range(32))).decode()
SINCE = {"created_at": "2026-03-01T12:00:00+00:00"}
GOOD = {"key": KEY, **SINCE}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ("", "is not JSON"),
        (f'{{"primary": "a", "keys": {{"a": {{"key": "{KEY}"', "is not JSON"),
        (b"\xff".decode("latin-1"), "is not JSON"),
        ([KEY], "primary"),
        ({"keys": {"a": GOOD}}, "primary"),
        ({"primary": 1, "keys": {"a": GOOD}}, "primary"),
        ({"primary": "b", "keys": {"a": GOOD}}, "primary"),
        ({"primary": "a", "keys": {}}, "primary"),
        ({"primary": "a", "keys": [KEY]}, "keys"),
        ({"primary": "a", "keys": {"a": KEY}}, r"keys\.a: must have the fields"),
        ({"primary": "a", "keys": {"a": {"key": KEY}}}, r"keys\.a: must have the fields"),
        ({"primary": "a", "keys": {"a": SINCE}}, r"keys\.a: must have the fields"),
        ({"primary": "a", "keys": {"a": {**GOOD, "wrapped": "x"}}}, r"keys\.a: must have"),
        ({"primary": "a", "keys": {"a": {**GOOD, "more": "x"}}}, r"keys\.a: must have"),
        ({"primary": "a", "keys": {"a": {"key": 1, **SINCE}}}, r"keys\.a: must have"),
        ({"primary": "a", "keys": {"a": {"key": KEY[:-4], **SINCE}}}, r"keys\.a: must be 32"),
        ({"primary": "a", "keys": {"a": {"key": KEY + "!", **SINCE}}}, r"keys\.a: must be 32"),
        ({"primary": "a", "keys": {"a": {"key": KEY, "created_at": KEY}}}, "a time must be"),
        ({"primary": "a", "keys": {"a": {"key": KEY, "created_at": "2026-03-01"}}}, "with a zone"),
        ({"primary": "a", "keys": {"a": {**GOOD, "demoted_at": 7}}}, "a time must be"),
        ({"primary": "a", "keys": {"a": {"wrapped": KEY, **SINCE}}}, r"keys\.a: cannot be unwra"),
        ({"primary": "a", "wrapped_by": 1, "keys": {"a": GOOD}}, '"wrapped_by", a string'),
        ({"primary": "a.b", "keys": {"a.b": GOOD}}, "keys: an id"),
        ({"primary": "", "keys": {"": GOOD}}, "keys: an id"),
        ({"primary": "a" * 65, "keys": {"a" * 65: GOOD}}, "keys: an id"),
        ({"primary": "a", "keys": {"a": GOOD, KEY: "a"}}, "keys: an id"),
        ({"primary": "a", "keys": {"a": GOOD}, "more": 1}, "at most"),
        (f'{{"primary": "a", "keys": {{"a": "{KEY}", "a": "{KEY}"}}}}', "twice"),
    ],
)
def test_s11_a_malformed_file_is_refused_without_a_word_of_its_keys(path, document, field):
    write(path, document)
    with pytest.raises(KeyRingError, match=field) as raised:
        ring_in(path)
    error = raised.value
    assert str(path) in str(error)
    while error is not None:
        assert KEY[:16] not in str(error)
        assert not hasattr(error, "doc")  # JSONDecodeError's: all of the text
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_rotation_that_was_interrupted_goes_on_with_its_key(file):
    staged = file.staging(NOW)
    assert staged.staging(NOW) == staged


def test_promoting_says_when_the_older_key_was_demoted(file):
    staged = file.staging(NOW)
    promoted = staged.promoting(staged.staged, NOW)
    assert promoted.keys[file.primary].demoted_at == NOW
    assert promoted.keys[promoted.primary].demoted_at is None
    assert promoted.staged is None


def test_a_key_that_is_promoted_again_was_not_demoted(file):
    staged = file.staging(NOW)
    back = staged.promoting(staged.staged, NOW).promoting(file.primary, NOW)
    assert back.keys[file.primary].demoted_at is None


@pytest.mark.parametrize("change", [KeyFile.without, lambda f, key: f.promoting(key, NOW)])
def test_s11_a_key_that_is_not_there_is_not_repeated(file, change):
    """Somebody may have pasted a key in place of its id."""
    with pytest.raises(KeyRingError) as raised:
        change(file, KEY)
    assert KEY not in str(raised.value)


def test_the_primary_key_is_never_removed(file):
    with pytest.raises(KeyRingError, match="is the primary key"):
        file.without(file.primary)


def test_keys_are_in_the_order_of_their_age(file):
    """The oldest one makes the fingerprints, wherever it stands in the file."""
    younger = file.staging(NOW + timedelta(days=1))
    older = file.staging(NOW - timedelta(days=1))
    assert next(iter(younger.material())) == file.primary
    assert list(older.material())[1] == file.primary


def test_an_edit_keeps_mode_and_neighbours(path, file):
    path.chmod(0o640)
    edited = KeySource(path, group_readable=True).edit(lambda file: file.staging(NOW))
    assert KeySource(path, group_readable=True).read() == edited != file
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_an_edit_follows_a_link(path, file, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    edited = KeySource(link).edit(lambda file: file.staging(NOW))
    assert link.is_symlink()
    assert KeySource(path).read() == edited != file


def test_an_edit_that_fails_leaves_the_file(path, file, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_files.os, "fsync", full)
    with pytest.raises(KeyRingError, match="cannot be changed: No space left"):
        KeySource(path).edit(lambda file: file.staging(NOW))
    assert KeySource(path).read() == file
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.race
def test_of_edits_at_once_none_is_lost(path, file):
    added = []

    def add(_):
        fresh = KeyFile.generated(NOW)
        added.append(fresh.primary)

        def change(found):
            return KeyFile(found.primary, {**found.keys, **fresh.keys})

        KeySource(path).edit(change)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    assert KeySource(path).read().keys.keys() == {file.primary, *added}


@pytest.mark.race
@pytest.mark.usefixtures("file")
def test_a_reader_never_sees_half_an_edit(path):
    done = threading.Event()

    def read():
        while not done.is_set():
            KeySource(path).read()

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        for _ in range(20):
            staged = KeySource(path).edit(lambda file: file.staging(NOW))
            KeySource(path).edit(lambda file, key=staged.staged: file.without(key))
        done.set()
    for each in reading:
        each.result()


@pytest.fixture
def in_environment(monkeypatch, tmp_path):
    file = KeyFile.generated(NOW)
    monkeypatch.setenv("ACME_KEYS", file.text)
    return KeySource(tmp_path / "none.json", "ACME_KEYS"), file


def test_a_ring_may_be_in_an_environment_variable(in_environment):
    source, file = in_environment
    assert source.read() == file
    keys = ReloadingKeys(source, ManualClock())
    assert keys.fingerprint("x") == KeyRing.of(file).fingerprint("x")


def test_a_variable_is_not_edited(in_environment):
    source, _ = in_environment
    with pytest.raises(KeyRingError, match="in ACME_KEYS, which this command cannot change"):
        source.edit(lambda file: file.staging(NOW))


def test_s11_a_variable_that_is_missing_or_malformed_is_named(in_environment, monkeypatch):
    source, _ = in_environment
    monkeypatch.setenv("ACME_KEYS", KEY)
    with pytest.raises(KeyRingError, match="ACME_KEYS: is not JSON"):
        source.ring()
    monkeypatch.delenv("ACME_KEYS")
    with pytest.raises(KeyRingError, match="ACME_KEYS: this environment variable is not set"):
        source.read()
