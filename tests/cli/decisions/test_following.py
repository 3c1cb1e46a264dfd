"""`stepup decisions tail`: the last decisions, new ones, rotations."""

import json
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepup.cli.decisions import following
from stepup.cli.decisions.following import Logs
from stepup.cli.decisions.sources import LogsError
from stepup.cli.main import app


def append(path, *texts):
    with Path(path).open("a") as file:
        file.write("".join(texts))


def ids(decisions):
    return [each["decision_id"][-2:] for each in decisions]


def tail(*arguments, **settings):
    ran = CliRunner().invoke(app, ["decisions", "tail", *arguments], **settings)
    assert ran.exit_code == 0, ran.output
    return ran.stdout.splitlines()


@pytest.fixture
def text(line):
    return lambda *arguments, **facts: json.dumps(line(*arguments, **facts)) + "\n"


@pytest.fixture
def logs_of():
    """Opens logs, and closes them after the test."""
    with ExitStack() as stack:
        yield lambda *sources, tenant=None, user=None: stack.enter_context(
            closing(Logs(sources, tenant, user))
        )


@pytest.fixture
def new(monkeypatch):
    """Reads as many new decisions as a list of writers causes, one writer before each poll."""

    def read(logs, *writers):
        steps = iter(writers)

        def write(_):
            next(steps)()

        monkeypatch.setattr(following.time, "sleep", write)
        found = []
        decisions = logs.new()
        with suppress(RuntimeError):  # the writers are used up: StopIteration within a generator
            while True:
                found.append(next(decisions))
        return ids(found)

    return read


def test_the_last_decisions_of_all_logs_are_in_the_order_of_time(line, log, monkeypatch, logs_of):
    monkeypatch.setattr(following, "_BLOCK_BYTES", 100)
    sources = [log(line(1), line(4), "torn", line(5), name="a"), log(line(2), line(3), name="b")]
    append(sources[1], '{"half')
    assert ids(logs_of(*sources).last(3)) == ["05", "02", "03"]
    assert ids(logs_of(*sources).last(0)) == []
    assert ids(logs_of(*sources).last(9)) == ["01", "04", "05", "02", "03"]


def test_a_selection_looks_further_back(line, log, logs_of):
    source = log(line(user_id="bob"), *(line(each) for each in range(20)))
    assert ids(logs_of(source, user="bob").last(1)) == ["01"]
    assert ids(logs_of(source, tenant="other").last(1)) == []


def test_new_decisions_are_read_once_their_line_is_complete(line, log, text, new, logs_of):
    logs = logs_of(source := log(line()))
    second = text()
    append(source, second[:50])
    logs.last(10)
    assert new(
        logs,
        lambda: append(source, second[50:-1]),
        lambda: append(source, "\n", "torn\n", text()),
        lambda: None,
    ) == ["02", "03"]


def test_without_earlier_decisions_only_new_ones_are_read(line, log, text, new, logs_of):
    logs = logs_of(source := log(line()))
    assert logs.last(0) == []
    assert new(logs, lambda: append(source, text()), lambda: None) == ["02"]


def test_a_rotation_loses_and_repeats_nothing(log, text, new, tmp_path, logs_of):
    source = Path(log())
    logs = logs_of(str(tmp_path / "*.jsonl*"))
    old = tmp_path / "decisions.jsonl-20260301"

    def rotate():
        append(source, text())
        source.rename(old)

    def write_both():
        append(old, text())
        append(source, text())
        append(tmp_path / "decisions.jsonl-20260228.gz", text())

    assert sorted(new(logs, rotate, write_both, old.unlink, lambda: None)) == [
        "01",
        "02",
        "03",
    ]


def test_a_file_that_was_removed_is_closed_after_a_while(log, new, monkeypatch, logs_of):
    monkeypatch.setattr(following, "_POLLS_WITHOUT_PATH", 1)
    source = Path(log())
    logs = logs_of(str(source))
    new(logs, source.unlink, lambda: None, lambda: None, lambda: None)
    assert len(logs) == 0


def test_a_log_of_another_machine_that_appears_later_is_read_whole(
    log, text, new, tmp_path, logs_of
):
    log()
    logs = logs_of(str(tmp_path / "*.jsonl"))
    assert new(logs, lambda: append(tmp_path / "b.jsonl", text(), text()), lambda: None) == [
        "01",
        "02",
    ]


def test_a_truncated_file_is_read_from_its_beginning(line, log, text, new, logs_of):
    logs = logs_of(source := log(line(), line()))
    logs.last(1)
    assert new(logs, lambda: Path(source).write_text(text()), lambda: None) == ["03"]


def test_sources_without_a_log_are_refused(tmp_path, log, logs_of):
    (tmp_path / "a.gz").write_bytes(b"")
    for source in ("none", str(tmp_path), str(tmp_path / "a.gz")):
        with pytest.raises(LogsError, match="no such file"):
            logs_of(log(), source)
    refused = CliRunner().invoke(app, ["decisions", "tail", "-", log()])
    assert refused.exit_code == 2


def test_people_read_a_line_and_programs_the_decision(line, log):
    source = log(decision := line(target="\x1b[2J"))
    [shown] = tail(source)
    assert shown == (
        "2026-03-01T10:00:00Z  acme alice  response-actions: response.run_osquery on \\x1b[2J"
        "  allowed: elevated"
    )
    assert [json.loads(each) for each in tail(source, "--json")] == [decision]
    lines = f"{json.dumps(decision)}\nlog\n{json.dumps(line(user_id='bob'))}\n"
    assert len(tail("-", input=lines)) == 2
    assert len(tail("-", "--user", "bob", input=lines)) == 1


def test_an_interrupt_ends_the_command_with_status_0(line, log, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupt)
    assert len(tail("-f", log(line()))) == 1


def test_a_strange_line_ends_no_tail(line, log):
    early = line(decided_at="0001-01-01T00:00:00+14:00")
    lines = tail(log(early, "[" * 40_000, line()))
    assert len(lines) == 2


def test_what_has_no_line_break_is_not_read_backwards_for_ever(line, tmp_path):
    path = tmp_path / "log"
    text = json.dumps(line())
    path.write_text(f"{text}\n{'x' * 2_000_000}\n{text}\n")
    assert len(tail(str(path))) == 1
