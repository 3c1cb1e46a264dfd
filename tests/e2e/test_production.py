"""The commands of docs/production.md lead from an empty directory to a first ALLOWED over mTLS.

The commands run as they are, in order. Each block has a new shell, which begins as the page says
how to continue after a failure. Programs that need root or change the machine are replaced by the
programs of `stepup_tests.plain_machine`. systemd does not start the unit: its `ExecStart` runs with
a notification socket of this test.
"""

import json
import re

import pytest
from stepup_tests.e2e.authenticator_app import AuthenticatorApp
from stepup_tests.e2e.readme import blocks, is_whole, section
from stepup_tests.e2e.topologies import EMBEDDED
from stepup_tests.places import ROOT
from stepup_tests.plain_machine import PlainMachine, has_programs

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has stores of its own"),
    pytest.mark.skipif(not has_programs(), reason="no redis-server, psql, openssl or curl"),
]

DOCS = ROOT / "docs"
PAGE = (DOCS / "production.md").read_text()


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A machine on which all commands of the page have run, and what each block has written."""
    with PlainMachine(tmp_path_factory.mktemp("machine")) as machine:
        app = None
        [begin, *others] = blocks(PAGE, "sh")
        passwords = machine.path("/root/stepup-passwords")
        for block in others:
            machine.start_shell()
            machine.run(begin)
            if passwords.exists():
                assert not passwords.stat().st_mode & 0o077
                machine.run(". /root/stepup-passwords")
            code = {"123456": app.code(lasting=5)} if app and "123456" in block else {}
            written = machine.run(block, code)
            if secret := re.search(r"secret .*: (\w+)", written):
                app = AuthenticatorApp(secret[1])
        yield machine


def test_the_first_person_is_allowed_over_mutual_tls_after_a_code(machine):
    lines = (machine.path("/var/lib/stepup/decisions.jsonl")).read_text().splitlines()
    required, allowed = map(json.loads, lines)
    assert required["decision"] == "enrollment_required"
    assert (allowed["decision"], allowed["reason"]) == ("allowed", "elevated")
    assert allowed["identities"] == ["spiffe://acme/ns/prod/sa/console"]


def test_the_server_is_the_wheel_and_is_ready_when_it_says_so(machine):
    assert machine.imported_from.is_relative_to(machine.path("/opt/stepup"))
    ready, reloading, reloaded = machine.notices
    assert ready[0] == "READY=1"
    assert re.fullmatch(r"STATUS=serving on 0\.0\.0\.0:\d+", ready[1])
    assert reloading[0] == "RELOADING=1"
    assert reloaded[0] == "READY=1"
    assert reloaded[1].endswith("the configuration was read again")


def test_check_config_warns_of_nothing(machine):
    assert "stepup: warning" not in machine.errors


def test_no_file_of_the_configuration_is_for_everybody(machine):
    for file in machine.path("/etc/stepup").iterdir():
        assert not file.stat().st_mode & 0o007, file


def test_s11_no_command_and_no_server_writes_a_password(machine):
    of_postgresql = machine.path("/etc/stepup/pgpass").read_text().splitlines()
    passwords = [line.rpartition(":")[2] for line in of_postgresql]
    passwords.append(machine.path("/etc/stepup/redis-operator.password").read_text().strip())
    assert [len(password) for password in passwords] == [48, 48, 48]
    assert not any(password in machine.errors for password in passwords)
    assert not machine.path("/root/stepup-passwords").exists()


RUNBOOKS = (DOCS / "runbooks.md").read_text()
_INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_OF_OPERATORS = ("psql ", "redis ", "stepup check-config ", "stepup keys ", "stepup audit ")
_ADDRESSES = {"@db/": "@127.0.0.1:5432/", "cache:6379": "127.0.0.1:6379"}
_REPLACED = {
    "@db/": _ADDRESSES["@db/"],
    "<file>": "/etc/stepup/stepup.toml",
    "<caller>": "console",
    "<tenant>": "acme",
    "<operation>": "response.run_osquery",
    "?sslmode=verify-full&sslrootcert=/etc/stepup/postgresql-ca.pem": "",
}


def here(text):
    """A document with the names of this machine in place of its placeholders."""
    for written, real in _REPLACED.items():
        text = text.replace(written, real)
    return text


def indented(text):
    """The indented blocks of a document."""
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in _INDENTED.findall(text)]


def commands_of(block):
    """The commands of a block that operators run on the stores, or as stepup's user."""
    lines = iter(block.splitlines())
    for line in lines:
        command = line if line.startswith(_OF_OPERATORS) else ""
        while command.endswith("\\") or not is_whole(command):
            command += f"\n{next(lines)}"
        if command:
            yield command


@pytest.mark.parametrize(
    "programs",
    [("psql ", "redis "), pytest.param(("stepup ",), marks=pytest.mark.slow)],
    ids=["stores", "stepup"],
)
def test_commands_of_the_runbooks_work_with_the_users_of_operating(machine, programs):
    everywhere = section(RUNBOOKS, "What holds in every incident")
    [prepare] = indented(here(everywhere.split("### Stores")[1]))
    commands = [
        each
        for block in indented(here(RUNBOOKS))
        for each in commands_of(block)
        if each.startswith(programs)
    ]
    assert len(commands) > 5
    with machine.redis_with_tls() as address:
        # Some commands are in several sections.
        machine.run("\n".join([prepare, *dict.fromkeys(commands)]), {"cache:6379": address})


def test_the_documented_back_up_works_with_the_users_of_operating(machine):
    """The restoration, whose steps need the servers to end: tests/e2e/test_restore_drill.py."""
    back_up, restore = blocks(section((DOCS / "backup.md").read_text(), "PostgreSQL"), "sh")
    machine.run(back_up, _ADDRESSES)
    assert machine.path("/var/backups/stepup/stepup.dump").stat().st_size
    flush = re.search("^redis-cli .*$", restore, re.MULTILINE)[0]
    assert machine.run(f"REDISCLI_AUTH=$REDIS_OPERATOR_PASSWORD {flush}", _ADDRESSES) == "OK\n"


def test_the_user_of_operators_reads_no_key_of_redis(machine):
    command = "redis-cli -u redis://127.0.0.1:6379/0 --user stepup-operator"
    for denied in ("get e{a}", "eval 'return 1' 0", "acl list", "config get dir", "flushall"):
        refused = machine.run(f"REDISCLI_AUTH=$REDIS_OPERATOR_PASSWORD {command} {denied}")
        assert refused.startswith("NOPERM"), denied


def test_the_server_reports_its_end(machine):
    machine.run("systemctl stop stepup")
    assert machine.notices[-1][0] == "STOPPING=1"
