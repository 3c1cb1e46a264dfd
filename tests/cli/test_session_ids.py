"""Session ids as commands read them."""

import io

import pytest
import typer

from stepup.cli.session_ids import read_session_id


def test_a_file_and_a_pipe_may_end_with_a_line_end(tmp_path, monkeypatch):
    file = tmp_path / "session"
    file.write_text(" s-1\n")
    assert read_session_id(file) == " s-1"
    monkeypatch.setattr("sys.stdin", io.StringIO("s-2\r\nmore"))
    assert read_session_id(type(file)("-")) == "s-2"


def test_s11_a_terminal_does_not_show_the_id(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda _prompt="": "s-3")
    assert read_session_id(type(tmp_path)("-")) == "s-3"
    assert "s-3" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "has no session id"), (b"\xff", "must be text"), (None, "No such file")],
)
def test_a_file_without_an_id_is_named(tmp_path, capsys, content, problem):
    file = tmp_path / "session"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(typer.Exit) as ended:
        read_session_id(file)
    assert ended.value.exit_code == 2
    assert f"{file}: {problem}" in capsys.readouterr().err
