"""What commands write, for a terminal, a pipe and a program."""

import io
import json
import os
import sys
from contextlib import contextmanager
from threading import Event

import pytest
import typer

from stepup.cli import output

HOSTILE = "al\x1b[2Jice\r\u202eecila\u2028\ud800\u3000Ω"
SHOWN = r"al\x1b[2Jice\r\u202eecila\u2028\ud800" + "\u3000Ω"


def test_no_text_of_a_person_controls_the_terminal():
    assert output.plain(HOSTILE) == SHOWN


def test_no_problem_and_no_head_of_a_table_controls_the_terminal(capsys):
    output.failure(f"first: {HOSTILE}\nsecond")
    assert capsys.readouterr().err == f"stepup: first: {SHOWN}\nsecond\n"
    output.write_table(("challenge", HOSTILE), [])
    assert capsys.readouterr().out == f"challenge  {SHOWN}\n"


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


@pytest.mark.parametrize(("empty", "written"), [("", "user  state"), ("nobody", "nobody")])
def test_a_table_without_rows_has_its_heads_or_a_sentence(capsys, empty, written):
    output.write_table(("user", "state"), iter(()), empty=empty)
    assert capsys.readouterr().out == f"{written}\n"


SENTENCE = "  Alice must give a code of the last 15 minutes in this session."


def test_a_pipe_gets_each_text_in_one_line(capsys):
    output.write_wrapped(SENTENCE)
    assert capsys.readouterr().out == f"{SENTENCE}\n"


@pytest.mark.usefixtures("_terminal")
def test_a_terminal_gets_a_long_text_in_lines_of_whole_words(capsys):
    output.write_wrapped(SENTENCE)
    assert capsys.readouterr().out.splitlines() == [
        "  Alice must give a code of the last",
        "      15 minutes in this session.",
    ]


def test_numbers_have_their_nouns():
    assert output.counted(1, "key") == "1 key"
    assert output.counted(1200, "key") == "1,200 keys"
    assert [output.counted_people(number) for number in (0, 1, 2)] == [
        *("0 people", "1 person", "2 people")
    ]


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


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_shows_the_progress_of_long_work_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    monkeypatch.setattr(output, "_QUIET_SECONDS", 0)
    asked = Event()

    def done():
        asked.set()
        return 0.42

    with output.progress_shown("Reading", done):
        assert asked.wait(60)
    assert "Reading" in terminal.getvalue()
    assert "42%" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_bar_counts_the_items_that_are_done(monkeypatch):
    parts = []

    @contextmanager
    def shown(title, done):
        parts.append(title)
        yield
        parts.append(done())

    monkeypatch.setattr(output, "progress_shown", shown)
    with output.tracked(["alice", "bob"], "Asking") as items:
        assert next(items) == "alice"
        assert next(items) == "bob"
    assert parts == ["Asking", 0.5]


def test_work_of_less_than_a_second_has_no_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    monkeypatch.setattr(output, "_QUIET_SECONDS", 60)
    with output.progress_shown("Reading", lambda: None):
        pass
    assert terminal.getvalue() == ""


def test_a_pipe_and_a_file_have_no_bar(monkeypatch):
    started = []
    monkeypatch.setattr(output, "Thread", started.append)
    reader, writer = os.pipe()
    with open(reader), open(writer, "w") as pipe:  # noqa: PTH123  # descriptors
        for stdout, stderr in ((pipe, _Terminal()), (io.StringIO(), io.StringIO())):
            monkeypatch.setattr(sys, "stdout", stdout)
            monkeypatch.setattr(sys, "stderr", stderr)
            with output.progress_shown("Reading", lambda: None):
                pass
            assert stderr.getvalue() == ""
    assert started == []
