"""Keys that Vault's transit engine wraps. Tested against a fake of Vault only."""

import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from stepup_tests import vault as fake
from stepup_tests.keys import ring_in

from stepup.keys import kms
from stepup.keys.file import KeyFile, KeyRingError
from stepup.keys.kms import KeyWrapperError, VaultTransit, wrapper_named
from stepup.keys.ring import KeyRing
from stepup.keys.source import KeySource

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = "vault:transit/stepup"
KEY = bytes(range(32))


@pytest.fixture
def vault(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))  # without a ~/.vault-token
    monkeypatch.setenv("VAULT_TOKEN", fake.TOKEN)
    with fake.running() as running:
        monkeypatch.setenv("VAULT_ADDR", running.address)
        yield running


@pytest.fixture
def wrapper(vault):
    return VaultTransit("transit", "stepup", vault.address, timeout=0.5)


def test_s6_what_is_wrapped_is_unwrapped(wrapper):
    wrapped = wrapper.wrap(KEY)
    assert wrapped.startswith("vault:v1:")
    assert wrapper.unwrap(wrapped) == KEY


@pytest.mark.usefixtures("vault")
def test_s6_a_file_of_wrapped_keys_has_no_key(tmp_path):
    file = KeyFile.generated(NOW, NAME)
    KeySource(tmp_path / "keys.json").create(file)
    [entry] = file.keys.values()
    assert entry.key is None
    assert '"key":' not in file.text
    staged = KeySource(tmp_path / "keys.json").read().staging(NOW)
    assert staged.keys[staged.staged].wrapped.startswith("vault:v1:")


def test_s6_a_ring_of_wrapped_keys_is_unwrapped_at_load(vault, tmp_path):
    file = KeyFile.generated(NOW, NAME)
    KeySource(tmp_path / "keys.json").create(file)
    loaded = ring_in(tmp_path / "keys.json")
    [key] = file.material().values()
    assert loaded.fingerprint("x") == KeyRing(file.primary, {file.primary: key}).fingerprint("x")
    assert set(vault.requests) == {"/v1/transit/encrypt/stepup", "/v1/transit/decrypt/stepup"}


def test_what_is_known_is_not_asked_again(vault):
    file = KeyFile.generated(NOW, NAME)
    [entry] = file.keys.values()
    vault.requests.clear()
    assert file.material({entry.wrapped: KEY}) == {file.primary: KEY}
    assert vault.requests == []


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"sealed": True}, r"is sealed or down \(503\)"),
        ({"silent": True}, "does not answer within 0.5 s"),
        ({"mount": "elsewhere"}, r"has no such mount or key \(404\)"),
        ({"keys": {}}, r"rejects the ciphertext or the key \(400\)"),
        ({"answer": {"errors": ["denied"]}, "status": 403}, r"denies permission \(403\)"),
        ({"answer": {"errors": ["internal error"]}, "status": 500}, "Vault fails"),
        ({"answer": b"<html>a proxy</html>"}, "in an unexpected form"),
        ({"answer": {"data": {}}}, "in an unexpected form"),
        ({"answer": {"data": {"ciphertext": "x", "plaintext": "!"}}}, "in an unexpected form"),
    ],
)
@pytest.mark.parametrize("call", [lambda w: w.wrap(KEY), lambda w: w.unwrap("vault:v1:AAAA")])
def test_s6_trouble_with_vault_has_its_reason(vault, wrapper, call, trouble, reason):
    for name, value in trouble.items():
        setattr(vault, name, value)
    with pytest.raises(KeyWrapperError, match=reason):
        call(wrapper)


def test_s18_a_vault_that_drips_is_given_up_and_keeps_few_threads(vault, monkeypatch):
    """The timeout of `requests` counts for each read, and headers are many."""
    monkeypatch.setattr(kms, "_calls", threading.BoundedSemaphore(2))
    vault.drips = True
    wrapper = VaultTransit("transit", "stepup", vault.address, timeout=0.1)
    for _ in range(4):
        with pytest.raises(KeyWrapperError, match=r"does not answer within 0\.1 s"):
            wrapper.wrap(KEY)
    threads = [each for each in threading.enumerate() if each.name == "stepup-deadline"]
    assert len(threads) == 2
    assert len(vault.requests) == 2
    vault.drips = False
    vault.go_on.set()
    for each in threads:
        each.join()
    assert wrapper.unwrap(wrapper.wrap(KEY)) == KEY


def test_a_vault_that_is_not_there_has_its_reason():
    nowhere = VaultTransit("transit", "stepup", "http://127.0.0.1:1", timeout=0.5)
    with pytest.raises(KeyWrapperError, match="cannot be reached"):
        nowhere.wrap(KEY)


@pytest.mark.parametrize("token", ["hvs.of-somebody-else", ""])
def test_without_the_right_token_nothing_is_unwrapped(wrapper, monkeypatch, token):
    wrapped = wrapper.wrap(KEY)
    monkeypatch.setenv("VAULT_TOKEN", token)
    with pytest.raises(KeyWrapperError, match="denies permission"):
        wrapper.unwrap(wrapped)


def test_a_renewed_token_is_taken_from_its_file(wrapper, monkeypatch, tmp_path):
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".vault-token").write_text(f"{fake.TOKEN}\n")
    assert wrapper.unwrap(wrapper.wrap(KEY)) == KEY


@pytest.mark.parametrize("other", ["vault:v1:!", "vault:v1:AAAA", "AAAA"])
def test_s6_what_vault_did_not_wrap_is_not_unwrapped(wrapper, other):
    with pytest.raises(KeyWrapperError, match="rejects the ciphertext"):
        wrapper.unwrap(other)


def test_s6_an_altered_key_is_not_unwrapped(wrapper):
    wrapped = wrapper.wrap(KEY)
    altered = wrapped[:-4] + ("AAA=" if wrapped[-4:] != "AAA=" else "BBB=")
    with pytest.raises(KeyWrapperError, match="rejects the ciphertext"):
        wrapper.unwrap(altered)


def test_s11_a_ring_that_is_not_unwrapped_names_its_key_only(vault, tmp_path):
    path = tmp_path / "keys.json"
    file = KeyFile.generated(NOW, NAME)
    KeySource(path).create(file)
    vault.sealed = True
    with pytest.raises(KeyRingError, match=rf"keys\.{file.primary}: cannot be unwrapped") as raised:
        ring_in(path)
    assert file.keys[file.primary].wrapped not in str(raised.value)
    with pytest.raises(KeyRingError, match="a new key cannot be wrapped: Vault is sealed"):
        file.staging(NOW)


@pytest.mark.usefixtures("vault")
def test_a_key_of_another_length_is_no_key():
    wrapped = wrapper_named(NAME).wrap(bytes(16))
    file = KeyFile.generated(NOW, NAME)
    entry = replace(file.keys[file.primary], wrapped=wrapped)
    with pytest.raises(KeyRingError, match="must be 32 bytes"):
        KeyRing.of(replace(file, keys={file.primary: entry}))


@pytest.mark.parametrize("name", [None, "", "vault", "vault:stepup", "vault:/x", "aws:a/b"])
@pytest.mark.usefixtures("vault")
def test_a_service_that_does_not_exist_is_refused(name):
    with pytest.raises(KeyWrapperError, match="must be vault:<mount>/<transit key>"):
        wrapper_named(name)


@pytest.mark.usefixtures("vault")
def test_a_mount_may_be_a_path(monkeypatch):
    monkeypatch.setenv("VAULT_NAMESPACE", "security")
    wrapper = wrapper_named("vault:kms/eu/stepup")
    assert (wrapper.mount, wrapper.key, wrapper.namespace) == ("kms/eu", "stepup", "security")


def test_without_an_address_there_is_no_vault(monkeypatch):
    monkeypatch.delenv("VAULT_ADDR", raising=False)
    with pytest.raises(KeyWrapperError, match="VAULT_ADDR is not set"):
        wrapper_named(NAME)


def test_without_hvac_the_extra_is_named(wrapper, monkeypatch):
    monkeypatch.setitem(sys.modules, "hvac", None)
    with pytest.raises(KeyWrapperError, match="extra `vault` of the distribution stepup-authz"):
        wrapper.wrap(KEY)
