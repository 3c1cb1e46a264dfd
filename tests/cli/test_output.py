"""What commands write, for a terminal, a pipe and a program."""

import io
import json

import pytest
import typer

from stepup.cli import output

HOSTILE = "al\x1b[2Jice\r\u202eecila\u2028\ud800\u3000Ω"
SHOWN = r"al\x1b[2Jice\r\u202eecila\u2028\ud800" + "\u3000Ω"


def test_no_text_of_a_person_controls_the_terminal():
    assert output.plain(HOSTILE) == SHOWN


@pytest.fixture
def _terminal(monkeypatch):
    """Standard output is a terminal."""
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_pipe_gets_plain_columns(capsys):
    output.write_table(("user", "state"), [("alice", "ok"), ("bob", HOSTILE)])
    assert capsys.readouterr().out == f"user   state\nalice  ok\nbob    {SHOWN}\n"


def long_table(written, capsys):
    """Rows of a long table; `written` gets what the command has written before the last of them."""
    yield from (("alice", "ok") for _ in range(100))
    written.append(capsys.readouterr().out)
    yield ("alice-the-second", "ok")


def test_a_long_table_is_written_as_its_rows_come(capsys):
    written = []
    output.write_table(("user", "state"), long_table(written, capsys))
    assert written[0].splitlines() == ["user   state", *["alice  ok"] * 100]
    assert capsys.readouterr().out == "alice-the-second  ok\n"


@pytest.mark.usefixtures("_terminal")
def test_on_a_terminal_each_part_of_a_long_table_has_its_heads(capsys):
    written = []
    output.write_table(("user", "state"), long_table(written, capsys))
    assert "user" in written[0]
    assert "state" in capsys.readouterr().out


def test_a_table_without_rows_has_its_heads(capsys):
    output.write_table(("user", "state"), [])
    assert capsys.readouterr().out == "user  state\n"


@pytest.mark.usefixtures("_terminal")
def test_a_terminal_gets_bold_heads_and_no_markup_of_a_cell(capsys):
    output.write_table(("user", "state"), [("[red]alice[/]", "x" * 60)])
    written = capsys.readouterr().out
    assert "\x1b[1muser" in written
    assert "[red]alice[/]" in written
    assert written.count("x") == 60


def test_json_is_one_line_of_ascii(capsys):
    output.write_json({"user": HOSTILE})
    written = capsys.readouterr().out
    assert written.isascii()
    assert json.loads(written) == {"user": HOSTILE}


def test_without_a_terminal_consent_must_be_given(capsys):
    output.demand_consent("Reset alice?", given=True)
    with pytest.raises(typer.Exit) as ended:
        output.demand_consent("Reset alice?", given=False)
    assert ended.value.exit_code == 2
    assert "Reset alice? Give --yes" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "consents"), [("y", True), ("n", False), ("", False)])
def test_a_terminal_asks_for_consent(monkeypatch, typed, consents):
    monkeypatch.setattr(output, "is_attended", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{typed}\n"))
    if consents:
        output.demand_consent("Reset alice?", given=False)
    else:
        with pytest.raises(typer.Abort):
            output.demand_consent("Reset alice?", given=False)
