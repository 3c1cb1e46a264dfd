"""`stepup ctl people import`, against a server."""

import asyncio
import json
from pathlib import Path

import mintotp
import pytest
import yaml
from stepup_tests.otp import code_at
from stepup_tests.people import person
from typer.testing import CliRunner

from stepup.cli.main import app
from stepup.domain.audit import EventKind
from stepup.domain.elevation import Outcome
from stepup.domain.key_uri import KeyUri

OTHERS = yaml.safe_load((Path(__file__).parent / "other_programs.yaml").read_text("utf-8"))
URIS = [other["uri"] for other in OTHERS["key_uris"]]
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
URI = f"otpauth://totp/Acme:alice?secret={SECRET}"
ACTOR = ("--tenant", "acme", "--operator", "sam", "--reason", "moved from Old")


@pytest.fixture
def run(running, tmp_path):
    """Imports lines, or a file, by the command."""

    async def run(lines, *options, address=running.target, insecure=("--insecure",)):
        file = tmp_path / "authenticators.txt"
        if not isinstance(lines, Path):
            file.write_text("\n".join(lines))
        source = lines if isinstance(lines, Path) else file
        arguments = ["ctl", "people", "import", str(source), *ACTOR, "--address", address]
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *insecure, *options])

    return run


def report_of(result):
    """The lines of a report as JSON."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def outcomes(result, *, dry_run):
    return [row["outcome"] for row in report_of(result) if row["dry_run"] is dry_run]


async def test_without_apply_the_server_registers_nothing(run, worker):
    result = await run([URI])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "line  account  issuer  user   outcome  problem",
        "1     alice    Acme    alice  ready",
        "dry run: ready: 1",
    ]
    assert (await worker.standing(person())).active is None


async def test_a_label_cannot_control_the_terminal(run):
    result = await run([f"otpauth://totp/Ac%1B%5B2Jme:ali%0Dce?secret={SECRET}"])
    assert r"Ac\x1b[2Jme" in result.stdout
    assert not {"\x1b", "\r"} & set(result.stdout)


async def test_authenticators_of_other_programs_give_codes_that_elevate(run, worker):
    result = await run(URIS, "--apply", "--json")
    assert result.exit_code == 0, result.output
    assert outcomes(result, dry_run=True) == ["ready"] * len(URIS)
    assert outcomes(result, dry_run=False) == ["imported"] * len(URIS)
    await worker.advance(seconds=30)
    for other in OTHERS["key_uris"]:
        base32, now = KeyUri.parse(other["uri"]).secret.base32, worker.clock.now()
        code = mintotp.hotp(base32 + "=" * (-len(base32) % 8), int(now.timestamp()) // 30)
        verification = await worker.verify(person(other["account"]), code)
        assert verification.outcome is Outcome.VERIFIED, other["program"]


async def test_a_picture_of_an_export_is_imported(run, worker):
    result = await run(Path(__file__).parent / "export.png", "--apply")
    assert result.exit_code == 0, result.output
    await worker.advance(seconds=30)
    code = code_at(b"12345678901234567890", worker.clock.now())
    verification = await worker.verify(person("heidi@acme.example"), code)
    assert verification.outcome is Outcome.VERIFIED


async def test_those_that_pass_are_imported_and_the_others_named(run, worker):
    await worker.enrol(person("bob"))
    lines = [URI, URI.replace("alice", "bob"), f"{URI}&digits=8", URI, OTHERS["parts"][0]]
    result = await run(lines, "--apply", "--json")
    assert result.exit_code == 1
    refused = ["has_authenticator", "unsupported", "repeated"]
    assert outcomes(result, dry_run=True) == ["ready", *refused, "ready", "incomplete"]
    assert outcomes(result, dry_run=False) == ["imported", *refused, "imported", "incomplete"]
    [*_, last] = report_of(result)
    assert "missing: 2." in last["problem"]


async def test_s13_the_events_name_the_operator_and_the_reason(run, worker):
    await run([URI], "--apply")
    [event] = await worker.events(EventKind.AUTHENTICATOR_IMPORTED)
    assert event.details["operator"] == {"name": "sam", "reason": "moved from Old"}


async def test_a_second_run_names_those_that_were_imported(run):
    await run([URI], "--apply")
    result = await run([URI, URI.replace("alice", "bob")], "--apply", "--json")
    assert (result.exit_code, outcomes(result, dry_run=False)) == (
        1,
        ["has_authenticator", "imported"],
    )


async def test_more_than_a_hundred_are_sent_in_several_calls(run, worker):
    lines = [URI.replace("alice", f"user-{number}") for number in range(101)]
    result = await run(lines)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "dry run: ready: 101")
    assert len(await worker.events(EventKind.OPERATOR_READ)) == 2


async def test_users_and_issuer_choose(run, tmp_path):
    users = tmp_path / "users.csv"
    users.write_text("account,user_id\nalice,u-1\n")
    lines = [URI, URI.replace("Acme", "Elsewhere"), URI.replace("alice", "bob")]
    result = await run(lines, "--users", str(users), "--issuer", "Acme", "--json")
    assert result.exit_code == 1
    assert [(row["line"], row["user"], row["outcome"]) for row in report_of(result)] == [
        ("1", "u-1", "ready"),
        ("3", "", "no_user"),
    ]


@pytest.mark.parametrize("options", [(), ("--json",), ("--apply",)])
async def test_s11_no_output_has_a_secret_or_controls_the_terminal(run, options):
    lines = [URI.replace("alice", "al%1B%5B2Jice"), f"{URI}&x=1", SECRET, f"{URI}%FF"]
    result = await run(lines, *options)
    assert result.exit_code == 1
    assert "GEZD" not in result.output
    assert "\x1b" not in result.output


async def test_a_server_that_fails_in_the_middle_leaves_the_rest_not_known(run, world):
    begun = 0

    async def fail_at_the_fourth():
        nonlocal begun
        begun += 1
        world.database.writes = begun < 4  # the dry run, the import, Alice, and not Bob
        world.database.before_transaction = fail_at_the_fourth

    world.database.before_transaction = fail_at_the_fourth
    result = await run([URI, URI.replace("alice", "bob")], "--apply", "--json")
    assert result.exit_code == 2
    assert outcomes(result, dry_run=False) == ["not_known", "not_known"]
    assert "stepup: " in result.stderr


async def test_s16_a_server_that_does_not_permit_it_ends_the_command(run):
    result = await run([URI], "--tenant", " acme")
    assert result.exit_code == 2
    assert "actor.tenant_id" in result.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"lines": ["", "# nothing"]}, "no authenticator"),
        ({"lines": Path("/nowhere/file")}, "/nowhere/file: No such file"),
        ({"insecure": ()}, "give --certificate with --key"),
        ({"insecure": ("--certificate", "/nowhere/c.pem")}, "certificate and private_key"),
        ({"address": "stepup.example:50051"}, "--insecure is for a server on this machine"),
        ({"insecure": ("--insecure", "--token-file", "/nowhere/t")}, "sends no credentials"),
    ],
)
async def test_wrong_usage_is_exit_code_2(run, options, problem):
    result = await run(**{"lines": [URI]} | options)
    assert (result.exit_code, problem in result.stderr) == (2, True), result.output


async def test_the_lines_may_come_from_standard_input(running):
    arguments = ["ctl", "people", "import", "-", *ACTOR, "--address", running.target, "--insecure"]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, input=f"{URI}\n")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "dry run: ready: 1")
