"""`stepup keys`: rings are made, rotated and retired, and no key is ever shown."""

import asyncio
import json
import shutil
import sqlite3
from base64 import b64encode
from contextlib import closing
from datetime import timedelta

import pytest
from stepup_tests import vault as fake
from stepup_tests.clock import ManualClock
from stepup_tests.keys import ring_in
from stepup_tests.world import migrated_template
from typer.testing import CliRunner

from stepup.cli.keys import commands
from stepup.cli.main import app
from stepup.domain.actor import SessionHash, TenantId, UserId
from stepup.domain.authenticator import Authenticator
from stepup.domain.enrollment import PendingEnrollment
from stepup.domain.reset_code import ResetCode
from stepup.domain.totp import Label, TotpSecret
from stepup.keys.file import KeyFile
from stepup.keys.source import KeySource
from stepup.stores.sql import SqlDatabase

ACME = TenantId("acme")
SECRET = TotpSecret(bytes(range(20)))
CODE = ResetCode(bytes(16))


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return migrated_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def clock(monkeypatch):
    clock = ManualClock()
    monkeypatch.setattr(commands, "_clock", clock)
    # The tests that follow look at logs as well.
    monkeypatch.setattr(commands, "configure_logging", lambda *_: None)
    return clock


@pytest.fixture
def data(tmp_path, template, clock):
    """A data directory with a key ring and an empty database."""
    shutil.copy(template, tmp_path / "stepup.db")
    KeySource(tmp_path / "keys.json").create(KeyFile.generated(clock.now()))
    return tmp_path


def keys(*arguments):
    return CliRunner().invoke(app, ["keys", *map(str, arguments)])


def ok(*arguments):
    result = keys(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments):
    result = keys(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("stepup: ")
    return result.stderr


def status(data):
    return {each["id"]: each for each in json.loads(ok("status", "--json", "--data-dir", data))}


def read(data):
    return KeySource(data / "keys.json").read()


def sealed(data, *users, now):
    """Give users an authenticator, a reset code and a wizard, sealed by the ring's primary key."""
    ring = ring_in(data / "keys.json")

    async def store():
        database = SqlDatabase(f"sqlite:///{data / 'stepup.db'}")
        async with database.transaction() as records:
            for name in users:
                place = (ACME, UserId(name), f"e-{name}")
                await records.authenticators.add(
                    Authenticator(*place, ring.seal(SECRET, *place), now, last_step=1)
                )
                await records.reset_codes.add(ring.record_reset_code(CODE, *place))
                await records.pending.replace(
                    PendingEnrollment(
                        ACME,
                        UserId(name),
                        SessionHash("session"),
                        f"e-{name}",
                        ring.seal(SECRET, *place),
                        Label("label"),
                        now + timedelta(minutes=10),
                    )
                )
        await database.close()

    asyncio.run(store())


def opened(data, user):
    """Open what a user has with the ring that is in the file."""
    ring = ring_in(data / "keys.json")
    place = (ACME, UserId(user))

    async def find():
        database = SqlDatabase(f"sqlite:///{data / 'stepup.db'}")
        async with database.transaction() as records:
            authenticator = await records.authenticators.find(*place)
            code = await records.reset_codes.find_for_update(*place)
            pending = await records.pending.find(*place, SessionHash("session"))
        await database.close()
        return authenticator, code, pending

    authenticator, code, pending = asyncio.run(find())
    return (
        ring.open(authenticator.sealed_secret, *place, authenticator.enrollment_id),
        ring.open(pending.sealed_secret, *place, pending.enrollment_id),
        ring.is_reset_code(CODE, code),
    )


def rotated(data):
    """Rotate; returns the ids of the older and of the newer key."""
    old = read(data).primary
    ok("rotate", "--wait", 0, "--data-dir", data)
    return old, read(data).primary


def test_a_ring_is_generated(tmp_path, clock):
    path = tmp_path / "keys.json"
    shown = ok("generate", "--output", path)
    file = KeySource(path).read()
    assert file.primary in shown
    assert file.keys[file.primary].created_at == clock.now()


def test_no_file_is_replaced(data):
    before = read(data)
    assert "the file exists already" in refused("generate", "--output", data / "keys.json")
    assert read(data) == before


def test_s6_s8_a_rotation_seals_everything_by_a_new_key(data, clock):
    sealed(data, "ann", "bob", now=clock.now())
    old, new = rotated(data)
    assert new != old
    used = ("authenticators", "pending_enrollments", "reset_codes")
    assert [status(data)[new][name] for name in used] == [2, 2, 2]
    assert [status(data)[old][name] for name in used] == [0, 0, 0]
    assert opened(data, "ann") == opened(data, "bob") == (SECRET, SECRET, True)


def test_a_rotation_says_what_it_has_done(data, clock):
    sealed(data, "ann", now=clock.now())
    shown = ok("rotate", "--wait", 0, "--data-dir", data)
    assert "1 authenticators, 1 pending enrollments, 1 reset codes of 1 users" in shown


def test_a_rotation_may_be_done_in_its_steps(data, clock):
    """As where the file is copied to where servers read it."""
    sealed(data, "ann", now=clock.now())
    old = read(data).primary
    ok("add", "--data-dir", data)
    new = read(data).staged
    assert status(data)[new]["state"] == "staged"
    ok("promote", new, "--data-dir", data)
    assert status(data)[old]["authenticators"] == 1
    ok("rewrap", "--data-dir", data)
    assert status(data)[old]["authenticators"] == 0


def test_a_rotation_takes_the_key_that_waits(data):
    ok("add", "--data-dir", data)
    ok("add", "--data-dir", data)
    waiting = read(data).staged
    rotated(data)
    assert read(data).primary == waiting
    assert len(read(data).keys) == 2


def test_without_a_database_nothing_is_rotated(data):
    (data / "stepup.db").unlink()
    before = read(data)
    refused("rotate", "--wait", 0, "--data-dir", data)
    assert read(data) == before


def test_without_a_ring_nothing_is_rotated(data):
    (data / "keys.json").unlink()
    for command in ("rotate", "rewrap", "status", "add"):
        assert "keys.json" in refused(command, "--data-dir", data)


def test_a_key_that_is_not_there_is_not_promoted(data):
    assert "no key with this id" in refused("promote", "x", "--data-dir", data)


def test_s6_what_cannot_be_opened_is_told_and_the_rest_is_done(data, clock):
    sealed(data, "ann", "bob", now=clock.now())
    with closing(sqlite3.connect(data / "stepup.db")) as connection, connection:
        connection.execute("UPDATE authenticators SET user_id = 'eve' WHERE user_id = 'bob'")
    old = read(data).primary
    shown = keys("rotate", "--wait", 0, "--data-dir", data)
    assert shown.exit_code == 2
    assert "1 secrets cannot be opened: the log names them" in shown.stderr
    assert status(data)[old]["authenticators"] == 1
    assert opened(data, "ann") == (SECRET, SECRET, True)
    clock.advance(minutes=61)
    assert "1 authenticators are sealed by it" in refused("retire", old, "--data-dir", data)


def test_status_counts_what_each_key_seals(data, clock):
    sealed(data, "ann", now=clock.now())
    old = read(data).primary
    ok("add", "--data-dir", data)
    new = read(data).staged
    ok("promote", new, "--data-dir", data)
    sealed(data, "bob", "cat", now=clock.now())
    shown = status(data)
    assert shown[old]["state"] == "demoted"
    assert shown[new] == {
        "id": new,
        "state": "primary",
        "created_at": clock.now().isoformat(),
        "authenticators": 2,
        "pending_enrollments": 2,
        "reset_codes": 2,
        "receipts_until": None,
        "can_be_retired": False,
        "in_use": ["it is the primary key"],
    }


def test_status_says_until_when_receipts_are_checked_by_a_key(data, clock):
    old, _ = rotated(data)
    shown = status(data)[old]
    assert shown["receipts_until"] == (clock.now() + timedelta(minutes=60)).isoformat()
    assert shown["can_be_retired"] is False
    clock.advance(minutes=60)
    assert status(data)[old]["can_be_retired"] is True


def test_status_is_a_table_for_people(data):
    old, new = rotated(data)
    lines = ok("status", "--data-dir", data).splitlines()
    assert {line.split()[0] for line in lines} == {"key", old, new}
    assert lines[0].split()[:5] == ["key", "state", "created", "authenticators", "pending"]


def test_s6_a_key_that_secrets_need_but_the_ring_lacks_is_an_alarm(data, clock):
    sealed(data, "ann", now=clock.now())
    lost = read(data).primary
    (data / "keys.json").unlink()
    KeySource(data / "keys.json").create(KeyFile.generated(clock.now()))
    shown = keys("status", "--data-dir", data)
    assert shown.exit_code == 2
    [line] = [line for line in shown.stdout.splitlines() if lost in line]
    assert line.split()[1] == "missing"
    assert "the ring lacks keys" in shown.stderr


def test_a_key_that_nothing_uses_is_retired(data, clock):
    sealed(data, "ann", now=clock.now())
    old, new = rotated(data)
    clock.advance(minutes=60)
    ok("retire", old, "--data-dir", data)
    assert read(data).keys.keys() == {new}
    assert opened(data, "ann") == (SECRET, SECRET, True)


def test_a_key_that_was_never_primary_is_retired_at_once(data):
    ok("add", "--data-dir", data)
    ok("retire", read(data).staged, "--data-dir", data)
    assert read(data).staged is None


def test_the_primary_key_is_not_retired(data):
    before = read(data)
    assert "is the primary key" in refused("retire", before.primary, "--data-dir", data)
    assert read(data) == before


def test_a_key_whose_receipts_may_still_come_is_not_retired(data, clock):
    old, _ = rotated(data)
    clock.advance(minutes=59)
    assert "retries may present its receipts" in refused("retire", old, "--data-dir", data)
    assert old in read(data).keys


def test_s25_a_key_whose_elevations_may_live_is_not_retired(data, clock):
    config = data / "stepup.toml"
    config.write_text('[verification]\nretry_window = "PT5M"\n')
    old, _ = rotated(data)
    clock.advance(minutes=14)
    retire = ("retire", old, "--data-dir", data, "--config", config)
    assert "elevations may have its MAC" in refused(*retire)
    clock.advance(minutes=1)
    ok(*retire)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("authenticators", "1 authenticators are sealed by it"),
        ("reset_codes", "1 reset codes are sealed by it"),
        ("pending_enrollments", "1 pending enrollments are sealed by it"),
    ],
)
def test_s6_a_key_that_seals_something_is_not_retired(data, clock, table, reason):
    sealed(data, "ann", now=clock.now())
    old, _ = rotated(data)
    with closing(sqlite3.connect(data / "stepup.db")) as connection, connection:
        connection.execute(f"UPDATE {table} SET key_id = ?", [old])  # noqa: S608
    clock.advance(minutes=61)
    assert reason in refused("retire", old, "--data-dir", data)
    assert old in read(data).keys


def test_s11_a_key_pasted_in_place_of_its_id_is_not_repeated(data):
    pasted = b64encode(bytes(range(32))).decode()
    for command in ("retire", "promote"):
        assert pasted not in refused(command, pasted, "--data-dir", data)


def test_s11_no_command_shows_a_key(data, clock):
    sealed(data, "ann", now=clock.now())
    old, new = rotated(data)
    clock.advance(minutes=61)
    shown = [
        keys("status", "--data-dir", data),
        keys("status", "--json", "--data-dir", data),
        keys("rotate", "--wait", 0, "--data-dir", data),
        keys("rewrap", "--data-dir", data),
        keys("generate", "--output", data / "other.json"),
    ]
    files = [read(data), KeySource(data / "other.json").read()]
    shown.append(keys("retire", old, "--data-dir", data))
    assert {result.exit_code for result in shown} == {0}
    for file in files:
        for entry in file.keys.values():
            for text in (b64encode(entry.key).decode(), entry.key.hex(), repr(entry.key)[2:-1]):
                assert all(text not in result.output + result.stderr for result in shown)
    assert new in shown[0].stdout


def test_s6_a_ring_of_wrapped_keys_is_rotated(data, clock, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    monkeypatch.setenv("VAULT_TOKEN", fake.TOKEN)
    with fake.running() as vault:
        monkeypatch.setenv("VAULT_ADDR", vault.address)
        (data / "keys.json").unlink()
        ok("generate", "--output", data / "keys.json", "--wrapped-by", "vault:transit/stepup")
        sealed(data, "ann", now=clock.now())
        rotated(data)
        assert opened(data, "ann") == (SECRET, SECRET, True)
        vault.sealed = True
        assert "Vault is sealed" in refused("rewrap", "--data-dir", data)
        refusal = refused("generate", "--output", data / "x.json", "--wrapped-by", "vault:t/k")
        assert "a new key cannot be wrapped" in refusal
    assert '"key":' not in (data / "keys.json").read_text()
    assert not (data / "x.json").exists()
