"""`stepup audit`: what an auditor runs, and what a script makes of the exit code (S14)."""

import asyncio
import json
import re
import sqlite3
from base64 import b64decode, b64encode
from contextlib import closing
from datetime import UTC, datetime
from io import StringIO

import pytest
from cryptography.exceptions import InvalidSignature
from stepup_tests.places import ROOT
from typer.testing import CliRunner

from stepup.cli.audit import commands as audit
from stepup.cli.main import app
from stepup.domain.actor import CallerId, TenantId, UserId
from stepup.domain.audit import Event, EventKind
from stepup.stores.sql import SqlDatabase, upgrade

INTACT, DAMAGED, UNKNOWN = 0, 1, 2
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "stepup.db"
    asyncio.run(upgrade(f"sqlite:///{path}"))
    return path


@pytest.fixture
def data_dir(tmp_path, template):
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    (directory / "stepup.db").write_bytes(template.read_bytes())
    return directory


@pytest.fixture
def happens(data_dir):
    """Appends events of a tenant."""

    async def append(tenant, number):
        database = SqlDatabase(f"sqlite:///{data_dir / 'stepup.db'}")
        async with database.transaction() as records:
            for _ in range(number):
                await records.audit.append(
                    Event(
                        TenantId(tenant),
                        EventKind.ELEVATIONS_REVOKED,
                        NOON,
                        CallerId("console"),
                        UserId("ada"),
                        UserId("ada"),
                        {"session": "5e55", "scope": "session"},
                    )
                )
        await database.close()

    return lambda tenant, number: asyncio.run(append(tenant, number))


@pytest.fixture
def two_tenants(happens):
    happens("acme", 3)
    happens("globex", 2)


@pytest.fixture
def sql(data_dir):
    """Runs a statement past the service."""

    def execute(statement):
        with closing(sqlite3.connect(data_dir / "stepup.db")) as connection, connection:
            connection.execute(statement)

    return execute


@pytest.fixture
def stepup(data_dir):
    """Runs a command in this process."""

    def run(command, *arguments):
        return CliRunner().invoke(
            app, ["audit", command, *map(str, arguments), "--data-dir", str(data_dir)]
        )

    return run


def lines(result):
    return result.stdout.splitlines()


@pytest.mark.usefixtures("two_tenants")
def test_s14_intact_chains_are_summed_up(stepup):
    result = stepup("verify")
    assert (result.exit_code, lines(result)) == (INTACT, ["tenants: 2, events: 5, intact"])


@pytest.mark.usefixtures("two_tenants")
def test_s14_damage_names_tenant_and_event(stepup, sql):
    sql("UPDATE audit_events SET caller = 'mallory' WHERE tenant_id = 'acme' AND sequence = 2")
    sql("DELETE FROM audit_events WHERE tenant_id = 'globex' AND sequence = 2")
    result = stepup("verify")
    assert result.exit_code == DAMAGED
    assert lines(result) == [
        'tenant "acme", event 2: the event does not match its hash: altered, or moved here',
        'tenant "globex", event 2: event 2 is missing at the end',
        "tenants: 2, events: 4, problems: 2",
    ]


@pytest.mark.usefixtures("two_tenants")
def test_s14_names_that_are_no_text_are_told_in_ascii(stepup, sql):
    sql("UPDATE audit_events SET tenant_id = CAST(x'1b5bff' AS TEXT) WHERE tenant_id = 'globex'")
    sql("UPDATE audit_events SET sequence = 'x' WHERE tenant_id = 'acme' AND sequence = 1")
    result = stepup("verify")
    assert result.exit_code == DAMAGED
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert 'tenant "acme", a row: an event cannot have this number' in lines(result)


@pytest.mark.usefixtures("two_tenants")
@pytest.mark.parametrize(
    ("tenant", "problem"),
    [("nobody", '--tenant: "nobody" has no events'), ("é", "--tenant: must be 1 to 128 bytes")],
)
def test_a_tenant_that_is_not_there_is_not_called_intact(stepup, tenant, problem):
    result = stepup("verify", "--tenant", tenant)
    assert result.exit_code == UNKNOWN
    assert problem in result.stderr


def test_without_a_database_nothing_is_called_intact(stepup, data_dir):
    (data_dir / "stepup.db").unlink()
    result = stepup("verify")
    assert result.exit_code == UNKNOWN
    assert result.stderr.startswith("stepup: ")


@pytest.mark.usefixtures("two_tenants")
def test_a_check_that_breaks_off_after_damage_reports_the_damage(stepup, sql, monkeypatch):
    sql("UPDATE audit_events SET caller = 'mallory' WHERE tenant_id = 'acme' AND sequence = 2")
    describe = audit.describe  # the moment to break the database

    def and_break(damage):
        sql("DROP TABLE audit_heads")
        return describe(damage)

    monkeypatch.setattr(audit, "describe", and_break)
    result = stepup("verify")
    assert result.exit_code == DAMAGED
    assert "stepup: the other events were not checked: " in result.stderr
    assert "intact" not in result.stdout


@pytest.fixture
def head_file(tmp_path):
    return tmp_path / "heads.json"


@pytest.fixture
def exported(two_tenants, stepup, head_file):  # noqa: ARG001  # something to export
    assert stepup("head", "--output", head_file).exit_code == 0
    return head_file


def cut(sql, tenant, last):
    sql(f"DELETE FROM audit_events WHERE tenant_id = '{tenant}' AND sequence > {last}")  # noqa: S608
    sql(
        "UPDATE audit_heads SET (sequence, hash) = (SELECT sequence, hash FROM audit_events e"  # noqa: S608
        f" WHERE e.tenant_id = '{tenant}' AND e.sequence = {last}) WHERE tenant_id = '{tenant}'"
    )


def test_s14_chains_contain_the_heads_that_were_exported(stepup, exported, happens):
    happens("acme", 2)
    happens("umbrella", 1)
    result = stepup("verify", "--head", exported)
    assert (result.exit_code, lines(result)) == (INTACT, ["tenants: 3, events: 8, intact"])


def test_s14_a_chain_that_was_cut_with_its_head_is_found(stepup, exported, sql):
    cut(sql, "acme", 1)
    assert stepup("verify").exit_code == INTACT
    result = stepup("verify", "--head", exported)
    assert result.exit_code == DAMAGED
    assert lines(result)[0] == (
        'tenant "acme", event 2: events 2 to 3 are missing which the exported head counts'
    )


def test_a_head_of_other_tenants_says_nothing_of_this_one(stepup, exported, happens):
    happens("umbrella", 1)
    result = stepup("verify", "--head", exported, "--tenant", "umbrella")
    assert result.exit_code == UNKNOWN
    assert 'the file has no head of the tenant "umbrella"' in result.stderr


def test_s14_an_auditor_needs_no_key_ring(stepup, exported, tmp_path, data_dir):
    pem = tmp_path / "key.pem"
    pem.write_text(stepup("public-key").stdout)
    (data_dir / "keys.json").unlink()
    result = stepup("verify", "--head", exported, "--public-key", pem)
    assert result.exit_code == INTACT
    assert not (data_dir / "keys.json").exists()


@pytest.mark.parametrize("field", ["signature", "exported_at", "key_id"])
def test_s14_a_head_that_was_altered_is_refused(stepup, exported, tmp_path, field):
    pem = tmp_path / "key.pem"
    pem.write_text(stepup("public-key").stdout)
    document = json.loads(exported.read_text())
    document[field] = b64encode(bytes(64)).decode()
    exported.write_text(json.dumps(document))
    result = stepup("verify", "--head", exported, "--public-key", pem)
    assert result.exit_code == UNKNOWN
    assert "the signature does not match" in result.stderr


def test_s14_a_head_that_another_key_signed_is_refused(stepup, exported, data_dir):
    (data_dir / "keys.json").unlink()
    stepup("public-key")
    key_id = json.loads(exported.read_text())["key_id"]
    result = stepup("verify", "--head", exported)
    assert result.exit_code == UNKNOWN
    assert f"the key ring has no key with this id: '{key_id}'" in result.stderr


@pytest.mark.parametrize(
    ("option", "content"),
    [
        ("--head", None),
        ("--head", "{}"),
        ("--public-key", None),
        ("--public-key", "no key"),
    ],
)
def test_a_file_that_is_none_is_named(stepup, exported, tmp_path, option, content):
    file = tmp_path / "file"
    if content is not None:
        file.write_text(content)
    files = {"--head": exported, option: file}
    result = stepup("verify", *(part for pair in files.items() for part in pair))
    assert result.exit_code == UNKNOWN
    assert result.stderr.startswith(f"stepup: {file}: ")


@pytest.mark.usefixtures("two_tenants")
def test_s14_a_damaged_head_is_not_signed(stepup, sql, head_file):
    sql("UPDATE audit_heads SET sequence = 2 WHERE tenant_id = 'acme'")
    result = stepup("head", "--output", head_file)
    assert result.exit_code == DAMAGED
    assert lines(result) == ['tenant "acme", event 2: the head is not the end of its chain']
    assert not head_file.exists()


def test_a_later_head_replaces_the_earlier_one(stepup, exported, happens):
    happens("acme", 1)
    assert stepup("head", "--output", exported, "--tenant", "acme").exit_code == 0
    heads = json.loads(exported.read_text())["heads"]
    assert [(head["tenant_id"], head["sequence"]) for head in heads] == [("acme", 4)]


@pytest.mark.usefixtures("two_tenants")
def test_a_head_that_cannot_be_written_is_named(stepup, tmp_path):
    result = stepup("head", "--output", tmp_path / "none" / "heads.json")
    assert result.exit_code == UNKNOWN
    assert "heads.json: cannot be written: No such file or directory" in result.stderr


def test_the_public_key_of_any_key_of_the_ring_is_shown(stepup, exported):
    key_id = json.loads(exported.read_text())["key_id"]
    assert stepup("public-key").stdout == stepup("public-key", "--key-id", key_id).stdout
    assert stepup("public-key").stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert stepup("public-key", "--key-id", "gone").exit_code == UNKNOWN


def sequences(text):
    return [json.loads(line)["sequence"] for line in text.splitlines()]


@pytest.mark.usefixtures("two_tenants")
def test_an_export_has_all_events_of_one_tenant_in_order(stepup):
    result = stepup("export", "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == 0
    assert sequences(result.stdout) == [1, 2, 3]
    first = json.loads(lines(result)[0])
    assert first["kind"] == "elevations_revoked"
    assert first["details"] == {"session": "5e55", "scope": "session"}
    assert first["previous_hash"] == "00" * 32


@pytest.mark.usefixtures("two_tenants")
def test_an_export_may_be_in_ocsf(stepup):
    result = stepup("export", "--format", "ocsf", "--tenant", "globex")
    events = [json.loads(line) for line in lines(result)]
    assert [event["class_uid"] for event in events] == [6003, 6003]
    assert [event["metadata"]["sequence"] for event in events] == [1, 2]


@pytest.mark.usefixtures("two_tenants")
def test_an_export_resumes_after_what_is_there(stepup, happens, tmp_path):
    file = tmp_path / "acme.jsonl"
    options = ("--format", "jsonl", "--tenant", "acme", "--output", file)
    assert stepup("export", *options).exit_code == 0
    happens("acme", 2)
    last = sequences(file.read_text())[-1]
    assert stepup("export", *options, "--after", last).exit_code == 0
    assert sequences(file.read_text()) == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("two_tenants")
def test_an_export_does_not_replace_a_file(stepup, tmp_path):
    file = tmp_path / "acme.jsonl"
    file.write_text("{}\n")
    result = stepup("export", "--format", "jsonl", "--tenant", "acme", "--output", file)
    assert result.exit_code == UNKNOWN
    assert "the file exists already" in result.stderr
    assert file.read_text() == "{}\n"


@pytest.mark.usefixtures("two_tenants")
def test_an_export_does_not_go_on_within_a_line(stepup, tmp_path):
    file = tmp_path / "acme.jsonl"
    file.write_text('{"sequence": 1}\n{"sequ')
    options = ("--format", "jsonl", "--tenant", "acme", "--output", file)
    result = stepup("export", *options, "--after", 1)
    assert result.exit_code == UNKNOWN
    assert "the last line is incomplete" in result.stderr


@pytest.mark.usefixtures("two_tenants")
@pytest.mark.parametrize(
    ("file", "problem"),
    [("none/acme.jsonl", "No such file or directory"), ("/dev/full", "No space left on device")],
)
def test_an_export_that_cannot_be_written_says_so(stepup, tmp_path, file, problem):
    options = ("--format", "jsonl", "--tenant", "acme", "--output", tmp_path / file)
    result = stepup("export", *options, "--after", 1)
    assert result.exit_code == UNKNOWN
    assert f"cannot be written: {problem}" in result.stderr


@pytest.mark.usefixtures("two_tenants")
@pytest.mark.parametrize("after", [0, 1])
def test_an_export_of_a_tenant_without_events_fails_as_its_verification_does(
    stepup, tmp_path, after
):
    file = tmp_path / "events.jsonl"
    options = ("--format", "jsonl", "--tenant", "acne", "--after", after, "--output", file)
    result, verified = stepup("export", *options), stepup("verify", "--tenant", "acne")
    assert (result.exit_code, result.stderr) == (verified.exit_code, verified.stderr)
    assert result.exit_code == UNKNOWN
    assert not file.exists()


@pytest.mark.usefixtures("two_tenants")
def test_an_export_that_comes_to_a_damaged_row_says_how_far_it_got(stepup, sql):
    sql("UPDATE audit_events SET kind = 'x' WHERE tenant_id = 'acme' AND sequence = 2")
    result = stepup("export", "--format", "jsonl", "--tenant", "acme")
    assert result.exit_code == UNKNOWN
    assert "the last event written is 0" in result.stderr


@pytest.fixture
def documented():
    """The Python programs of docs/auditing.md, by their first line."""
    text = (ROOT / "docs" / "auditing.md").read_text()
    programs = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    return {program.partition("\n")[0]: program for program in programs}


@pytest.mark.usefixtures("two_tenants")
def test_s14_the_documented_program_verifies_an_export(stepup, tmp_path, documented, monkeypatch):
    file = tmp_path / "acme.jsonl"
    stepup("export", "--format", "jsonl", "--tenant", "acme", "--output", file)
    program = documented["# verify_export.py"]

    def verify(lines):
        monkeypatch.setattr("sys.stdin", StringIO(lines))
        exec(compile(program, "docs", "exec"), {})  # noqa: S102  # our own documentation

    verify(file.read_text())
    with pytest.raises(SystemExit, match="event 1"):
        verify(file.read_text().replace('"caller":"console"', '"caller":"mallory"', 1))
    with pytest.raises(SystemExit, match="event 3"):
        verify("\n".join(file.read_text().splitlines()[::2]))


def test_s14_the_documented_program_verifies_a_head(
    stepup, exported, tmp_path, documented, monkeypatch
):
    pem = tmp_path / "key.pem"
    pem.write_text(stepup("public-key").stdout)
    program = documented["# verify_head.py"]
    monkeypatch.setattr("sys.argv", ["verify_head.py", str(exported), str(pem)])
    exec(compile(program, "docs", "exec"), {})  # noqa: S102
    document = json.loads(exported.read_text())
    assert len(b64decode(document["signature"])) == 64
    document["heads"][0]["sequence"] += 1
    exported.write_text(json.dumps(document))
    with pytest.raises(InvalidSignature):
        exec(compile(program, "docs", "exec"), {})  # noqa: S102


@pytest.mark.usefixtures("two_tenants")
@pytest.mark.parametrize(
    "before", ["2026-03-02", "2026-03-02T00:00:00", "2026-03-02T01:00:00+01:00"]
)
def test_prune_only_counts_without_delete(stepup, before):
    stepup("public-key")  # makes the key ring
    result = stepup("prune", "--before", before)
    assert (result.exit_code, lines(result)) == (
        INTACT,
        [
            'tenant "acme": 2 events to delete',
            'tenant "globex": 1 events to delete',
            "tenants: 2, events to delete: 3 (nothing was deleted: give --delete)",
        ],
    )
    assert lines(stepup("verify")) == ["tenants: 2, events: 5, intact"]


@pytest.mark.usefixtures("two_tenants")
def test_s14_a_pruned_chain_is_intact_for_an_auditor_with_the_public_key(
    stepup, exported, tmp_path
):
    result = stepup("prune", "--before", "2026-03-02", "--tenant", "acme", "--delete")
    assert lines(result) == [
        'tenant "acme": 2 events deleted',
        "tenants: 1, events deleted: 2",
    ]
    pem = tmp_path / "key.pem"
    pem.write_text(stepup("public-key").stdout)
    for arguments in ([], ["--head", exported], ["--public-key", pem]):
        result = stepup("verify", *arguments)
        assert (result.exit_code, lines(result)) == (INTACT, ["tenants: 2, events: 4, intact"])


@pytest.mark.usefixtures("two_tenants")
def test_s14_prune_leaves_damaged_chains_and_prunes_the_others(stepup, sql):
    stepup("public-key")
    sql("UPDATE audit_events SET caller = 'mallory' WHERE tenant_id = 'acme' AND sequence = 2")
    sql("INSERT INTO audit_heads VALUES (CAST(x'ff' AS TEXT), 1, zeroblob(32))")
    result = stepup("prune", "--before", "2026-03-02", "--delete")
    assert result.exit_code == DAMAGED
    assert lines(result) == [
        'tenant "acme", event 2: the event does not match its hash: altered, or moved here',
        'tenant "globex": 1 events deleted',
        'tenant "\\udcff", a row: the row belongs to no tenant',
        "tenants: 3, events deleted: 1",
    ]


def test_prune_takes_an_age_and_shows_its_instant(stepup):
    stepup("public-key")
    result = stepup("prune", "--before", "400d")
    assert result.exit_code == INTACT
    assert re.fullmatch(r"--before 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", result.stderr)


@pytest.mark.parametrize(
    ("before", "problem"),
    [("2999-01-01", "must not be in the future"), ("yesterday", "must be an instant")],
)
def test_prune_refuses_an_instant_of_the_future(stepup, before, problem):
    result = stepup("prune", "--before", before)
    assert result.exit_code == UNKNOWN
    assert f"--before {problem}" in result.stderr.replace(":", "")


@pytest.mark.usefixtures("two_tenants")
def test_s14_prune_says_which_role_may_delete(stepup, sql):
    stepup("public-key")
    sql(
        "CREATE TRIGGER no_delete BEFORE DELETE ON audit_events"
        " BEGIN SELECT RAISE(ABORT, 'denied'); END"
    )
    result = stepup("prune", "--before", "2026-03-02", "--delete")
    assert result.exit_code == UNKNOWN
    assert "run the command with the role of `stepup migrate`" in result.stderr
