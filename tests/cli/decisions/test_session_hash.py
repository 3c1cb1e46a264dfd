"""`stepup decisions session-hash`: the session id comes from a file, a pipe or a prompt."""

from typer.testing import CliRunner

from stepup.cli.main import app

HASH = "b3f966ca7f2cdba9916be8129110bfd8\n"


def hash_of(*arguments, **settings):
    return CliRunner().invoke(app, ["decisions", "session-hash", *arguments], **settings)


def test_the_hash_is_that_of_the_log(tmp_path):
    person = ("--tenant", "acme", "--user", "alice")
    assert hash_of(*person, input="s-4711\n").stdout == HASH
    file = tmp_path / "session"
    file.write_text("s-4711\n")
    assert hash_of(*person, "--session-id-file", str(file)).stdout == HASH
    folded = hash_of("--tenant", "ACME", "--user", "Alice", "--fold-case", input="s-4711")
    assert folded.stdout == HASH


def test_s11_an_id_that_is_refused_is_not_repeated():
    refused = hash_of("--tenant", "acme", "--user", "alice", input="s-4711\x07\n")
    assert refused.exit_code == 2
    assert "4711" not in refused.output
