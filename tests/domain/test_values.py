"""What holds for every value of the domain; above all that no secret shows (S11)."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass, is_dataclass
from enum import Enum

import mypy.api
import pytest

import stepup.domain
from stepup.domain import values
from stepup.domain.actor import Actor, RetryReceipt, SessionId, TenantId, UserId
from stepup.domain.mac_keys import MacKeys
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import OtpCode, TotpSecret

MODULES = [
    importlib.import_module(f"stepup.domain.{found.name}")
    for found in pkgutil.iter_modules(stepup.domain.__path__)
]
VALUES = sorted(
    {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type) and is_dataclass(value)
    },
    key=lambda value: value.__qualname__,
)
WORDS = [
    word
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Enum) and kind.__module__ == module.__name__
    for word in kind
]
SECRET = "31415926535897932384"
SECRETS = [
    OtpCode("314159"),
    TotpSecret(SECRET.encode()),
    ResetCode(SECRET[:16].encode()),
    RetryReceipt(SECRET),
    SessionId(SECRET),
    MacKeys(SECRET, {SECRET: SECRET.encode()}),
]


@dataclass
class Enclosing:
    value: object


def without_addresses(text):
    return re.sub(r"0x[0-9a-f]+", "0x...", text)


def test_every_value_is_declared_as_one():
    for module in MODULES:
        if module is not values:
            assert "@dataclass" not in inspect.getsource(module)


def test_code_that_changes_a_value_does_not_pass_mypy(tmp_path):
    code = tmp_path / "code.py"
    code.write_text(
        "from stepup.domain.policy import Policy\n"
        "def enable(policy: Policy) -> None:\n"
        "    policy.enabled = True\n"
    )
    said, _, _ = mypy.api.run([str(code)])
    assert 'Property "enabled" defined in "Policy" is read-only' in said


@pytest.mark.parametrize("value", VALUES)
def test_a_value_has_no_room_for_anything_but_its_fields(value):
    assert "__dict__" not in dir(value)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_stored_and_logged_as_its_name_in_lower_case(word):
    assert word.value == word.name.lower()


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)
@pytest.mark.parametrize(
    "shown", [repr, lambda secret: repr(Enclosing(secret)), lambda secret: repr([secret])]
)
def test_a_secret_shows_in_no_repr(secret, shown):
    assert "314" not in without_addresses(shown(secret))


@pytest.mark.parametrize("secret", [each for each in SECRETS if not isinstance(each, str)])
@pytest.mark.parametrize("shown", [str, "{}".format, lambda secret: f"{secret}"])
def test_a_secret_shows_in_no_text_either(secret, shown):
    assert "314" not in without_addresses(shown(secret))


def test_an_actor_shows_neither_its_session_nor_its_receipt():
    actor = Actor(
        TenantId("acme"), UserId("ada"), SessionId(SECRET), retry_receipt=RetryReceipt(SECRET)
    )

    assert "314" not in without_addresses(repr(actor))
