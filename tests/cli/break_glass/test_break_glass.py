"""`stepup break-glass`: what somebody on the host types and reads."""

import asyncio
import json
import os
import pwd
import shutil
import socket

import pytest
from stepup_tests.keys import ring_in
from stepup_tests.world import migrated_template
from structlog.testing import capture_logs
from typer.testing import CliRunner

from stepup.cli.break_glass import commands
from stepup.cli.main import app
from stepup.domain.actor import TenantId, UserId
from stepup.domain.authenticator import Authenticator
from stepup.domain.totp import TotpSecret
from stepup.keys.file import KeyFile
from stepup.keys.source import KeySource
from stepup.service.ports import EventQuery
from stepup.stores.sql import SqlDatabase
from stepup.system.clock import SystemClock

ACME, ADA = TenantId("acme"), UserId("ada")
NOW = SystemClock().now()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return migrated_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def database(data):
    """Runs work on the records of the data directory."""

    def run(work):
        async def with_records():
            database = SqlDatabase(f"sqlite:///{data / 'stepup.db'}")
            async with database.transaction() as records:
                result = await work(records)
            await database.close()
            return result

        return asyncio.run(with_records())

    return run


@pytest.fixture
def data(tmp_path, template, monkeypatch):
    """A data directory with a key ring and a database."""
    # The tests that follow look at logs as well.
    monkeypatch.setattr(commands, "configure_logging", lambda *_: None)
    shutil.copy(template, tmp_path / "stepup.db")
    KeySource(tmp_path / "keys.json").create(KeyFile.generated(NOW))
    return tmp_path


@pytest.fixture
def enrolled(data, database):
    """Ada has an authenticator."""
    secret, enrollment_id = TotpSecret(bytes(20)), "0190f4e2-0000-7000-8000-000000000000"
    sealed = ring_in(data / "keys.json").seal(secret, ACME, ADA, enrollment_id)
    authenticator = Authenticator(ACME, ADA, enrollment_id, sealed, NOW, 1)
    database(lambda records: records.authenticators.add(authenticator))


def is_enrolled(database):
    return database(lambda records: records.authenticators.find(ACME, ADA)) is not None


def break_glass(data, tenant="acme", user="ada", reason="fire", **settings):
    options = ("--tenant", tenant, "--user", user, "--reason", reason)
    arguments = ["break-glass", "reset-enrollment", *options, "--data-dir", str(data)]
    return CliRunner().invoke(app, arguments, env=settings)


@pytest.mark.usefixtures("enrolled")
def test_it_says_what_it_has_done_and_what_the_person_does_next(data, database):
    with capture_logs() as logs:
        done = break_glass(data)
    assert done.exit_code == 0, done.output
    assert 'the user "ada" of the tenant "acme" has no authenticator any more' in done.stdout
    assert "next: the person signs in again, enrols a new authenticator" in done.stdout
    assert not is_enrolled(database)
    machine = {"os_user": pwd.getpwuid(os.getuid()).pw_name, "host": socket.gethostname()}
    assert [line for line in logs if line["event"] == "break_glass_used"] == [
        {
            "event": "break_glass_used",
            "log_level": "warning",
            "tenant": "acme",
            "user": "ada",
            **machine,
        }
    ]
    [chained] = database(lambda records: records.audit.list(EventQuery(ACME), 10))
    assert machine.items() <= chained.event.details.items()


def test_a_user_whom_the_machine_does_not_know_is_named_by_number(monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert commands.os_user() == f"uid {os.getuid()}"


def test_a_user_without_an_authenticator_is_status_1_and_changes_nothing(data, database):
    done = break_glass(data)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(
        'stepup: the user "ada" of the tenant "acme" has no authenticator: nothing was changed.'
    )
    assert database(lambda records: records.audit.list(EventQuery(ACME), 10)) == []


@pytest.mark.usefixtures("enrolled")
@pytest.mark.parametrize(
    ("fold", "status"),
    [("true", 0), ("false", 1)],
)
def test_ids_are_folded_where_the_servers_fold_them(data, fold, status):
    done = break_glass(data, "ACME", "Ada", STEPUP_IDENTITY__FOLD_CASE=fold)
    assert done.exit_code == status, done.output


@pytest.mark.usefixtures("enrolled")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tenant": ""}, "--tenant: is required"),
        ({"user": "é"}, "--user: must be 1 to 128 bytes of printable ASCII"),
        ({"reason": "  "}, "--reason: must not be blank"),
        ({"reason": "x" * 513}, "--reason: must be at most 512 characters"),
    ],
)
def test_an_option_that_is_not_valid_is_named(data, database, options, said):
    refused = break_glass(data, **options)
    assert (refused.exit_code, refused.stderr) == (2, f"stepup: {said}\n")
    assert is_enrolled(database)


@pytest.mark.usefixtures("enrolled")
def test_s6_without_a_key_ring_it_names_the_file_and_makes_none(data, database):
    (data / "keys.json").unlink()
    refused = break_glass(data)
    said = f"stepup: storage.data_dir: {data}/keys.json: the file does not exist\n"
    assert (refused.exit_code, refused.stderr) == (2, said)
    assert not (data / "keys.json").exists()
    assert is_enrolled(database)


@pytest.mark.usefixtures("enrolled")
def test_s6_with_another_key_ring_it_names_the_file_and_the_key(data, database):
    before = json.loads((data / "keys.json").read_text())["primary"]
    (data / "keys.json").unlink()
    KeySource(data / "keys.json").create(KeyFile.generated(NOW))
    refused = break_glass(data)
    assert refused.exit_code == 2
    assert f"stepup: storage.data_dir: {data}/keys.json: " in refused.stderr
    assert before in refused.stderr
    assert is_enrolled(database)
