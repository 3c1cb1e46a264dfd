"""Decision logs as a table: files, patterns, standard input, broken lines."""

import gzip
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stepup.cli.decisions.reading import LINE, Selection, decisions_of
from stepup.cli.decisions.sources import LogsError


def ids_of(*sources, **selected):
    with decisions_of(sources, Selection(**selected)) as decisions:
        return [each["decision_id"][-2:] for each in decisions.in_order()]


def test_the_lines_of_several_servers_are_one_table_in_the_order_of_time(line, log):
    log(line(5), line(1), name="a.jsonl")
    log(line(3), name="b[1].jsonl")
    pattern = str(Path(log(name="c.jsonl")).with_name("*.jsonl"))
    assert ids_of(pattern, pattern.replace("*", "a")) == ["02", "03", "01"]
    assert ids_of(pattern.replace("*", "b[1]")) == ["03"]


def test_a_row_has_the_facts_of_its_line_in_their_types(line, log):
    written = line(
        playbook_run={"playbook_id": "p", "run_id": "r", "trigger": "automatic"},
        claims={"timed_out_retry": "callers[0].rules[1]"},
        repeated=True,
        elevated_at="2026-03-01T11:59:00+02:00",
        of_a_newer_server={"a": [1]},
    )
    with decisions_of([log(written)]) as decisions:
        [row] = decisions.in_order()
    at = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
    assert row["decided_at"] == at
    assert row["elevated_at"] == at.replace(hour=9, minute=59)
    assert row["retry_of"] is None
    shared = written.keys() & row.keys() - {"decided_at", "elevated_at"}
    assert {key: row[key] for key in shared} == {key: written[key] for key in shared}
    assert "of_a_newer_server" not in row


def test_a_line_can_be_had_as_it_was_written(line, log):
    written = line(of_a_newer_server={"a": [1]})
    with decisions_of([log(written)], columns=["target", LINE]) as decisions:
        [row] = decisions.in_order()
    assert json.loads(row[LINE]) == written
    assert row["target"] == "host-7"
    assert "session" not in row


def test_lines_that_are_no_decisions_are_counted_for_each_file(line, log):
    torn = json.dumps(line())[:100]
    no_instant = line(decided_at="soon")
    sources = [
        log(line(), torn, "", "7", "[1]", "{}", '{"sequence":1}', no_instant, torn, name="a.jsonl"),
        log(line(caller=None), name="b.jsonl"),
        log(line(), name="c.jsonl"),
    ]
    with decisions_of(sources, Selection(user_id="alice")) as decisions:
        assert len(list(decisions.in_order())) == 2
        assert decisions.copies == 0
        assert decisions.broken == {sources[0]: 7, sources[1]: 1}


def test_a_fact_of_another_type_leaves_the_line_a_decision(line, log):
    with decisions_of([log(line(target=["x"], claims=7, elevated_at="soon"))]) as decisions:
        [row] = decisions.in_order()
    assert (row["claims"], row["elevated_at"]) == (None, None)


def test_repeated_decisions_are_all_there(line, log):
    first = line()
    assert ids_of(log(first, {**first, "repeated": True})) == ["01", "01"]


def test_a_line_in_several_files_counts_once(line, log, tmp_path):
    rotated, current = [line(1), line(2), "torn"], [line(3), line(4)]
    log(*rotated, name="decisions.jsonl-20260301")
    log(*current, name="decisions.jsonl")
    unfinished = Path(log(*current[:1], name="unfinished copy"))
    packed = Path(log(*rotated, name="decisions.jsonl-20260301.gz"))
    packed.write_bytes(gzip.compress(packed.read_bytes()))
    sources = [*map(str, tmp_path.glob("decisions*")), str(unfinished)]
    assert ids_of(*sources) == ["01", "02", "03", "04"]
    with decisions_of(sources) as decisions:
        assert decisions.copies == 3
        assert sum(decisions.broken.values()) == 2


def test_lines_that_differ_in_anything_are_not_copies(line, log):
    one = line()
    resent = {**one, "repeated": True}
    resent_again = {**resent, "decided_at": "2026-03-01T10:00:00.000001+00:00"}
    altered = {**one, "of_a_newer_server": 1}
    source = log(one, resent, resent_again, altered, {**one, "decision_id": "another"})
    with decisions_of([source, log(resent, name="b")], columns=["target"]) as decisions:
        assert (len(list(decisions.in_order())), decisions.copies) == (5, 1)


def test_lines_with_the_same_hash_are_not_copies(line, log, monkeypatch):
    monkeypatch.setattr("stepup.cli.decisions.reading._HASH", "42::UBIGINT")
    with decisions_of([log(line(), line())]) as decisions:
        assert (len(list(decisions.in_order())), decisions.copies) == (2, 0)


def test_a_selection_leaves_the_rest_out(line, log):
    lines = [line(), line(2), line(4), line(2, user_id="bob"), line(2, tenant_id="other")]
    at = datetime(2026, 3, 1, 10, 2, tzinfo=UTC)
    selected = {"since": at, "until": at.replace(minute=4), "tenant_id": "acme"}
    assert ids_of(log(*lines), **selected, user_id="alice") == ["02"]
    assert ids_of(log(*lines), **selected) == ["02", "04"]


def test_compressed_files_and_standard_input_are_read(line, log, tmp_path):
    text = Path(log(line(), name="plain")).read_bytes()
    packed = tmp_path / "decisions.jsonl-20260301.gz"
    packed.write_bytes(gzip.compress(text))
    assert ids_of(str(packed)) == ["01"]
    program = (
        "from stepup.cli.decisions.reading import decisions_of\n"
        "with decisions_of(['-']) as decisions:\n"
        "    print(len(list(decisions.in_order())), decisions.broken)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], input=text + b"{\n", capture_output=True, check=True
    )
    assert ran.stdout == b"1 {'-': 1}\n"


def test_s13_a_named_pipe_is_refused_since_its_reader_would_lose_decisions(tmp_path):
    os.mkfifo(tmp_path / "decisions")
    reader = os.open(tmp_path / "decisions", os.O_RDWR)
    try:
        os.write(reader, b"{}\n")
        with pytest.raises(LogsError, match="is a named pipe"), decisions_of([f"{tmp_path}/d*"]):
            pass
        assert os.read(reader, 10) == b"{}\n"
    finally:
        os.close(reader)


def test_a_pipe_of_a_shell_is_read(line):
    read, write = os.pipe()
    os.write(write, f"{json.dumps(line())}\n".encode())
    os.close(write)
    with decisions_of([f"/dev/fd/{read}"]) as decisions:
        assert len(list(decisions.in_order())) == 1
    os.close(read)


def test_the_names_of_directories_are_no_columns(line, tmp_path):
    for name in ("json=1", "filename=x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log").write_text(f"{json.dumps(line())}\n")
    with decisions_of([f"{tmp_path}/*/log"]) as decisions:
        assert (len(list(decisions.in_order())), decisions.broken) == (2, {})


@pytest.mark.parametrize("by", [signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_stays_when_the_process_is_killed(line, tmp_path, by):
    program = (
        "import signal\n"
        "from stepup.cli.decisions.reading import decisions_of\n"
        # A parent such as nohup may have made the tests ignore them.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with decisions_of(['-']):\n"
        "    print('read', flush=True)\n"
        "    while True: signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        process.stdin.write(f"{json.dumps(line())}\n".encode())
        process.stdin.close()
        assert process.stdout.readline() == b"read\n"
        [directory] = tmp_path.iterdir()
        assert {each.name for each in directory.iterdir()} >= {"decisions.duckdb", "pipe-0.jsonl"}
        assert directory.stat().st_mode & 0o777 == 0o700
        process.send_signal(by)
        process.stdout.read()  # until no process has it
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_standard_input_may_be_larger_than_the_memory(line):
    program = (
        "from stepup.cli.decisions import reading\n"
        "reading._MEMORY = '200MB'\n"
        "with reading.decisions_of(['-'], reading.Selection(user_id='bob')) as decisions:\n"
        "    print(len(list(decisions.in_order())))"
    )
    text = f"{json.dumps(line())}\n".encode() * 600_000
    ran = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, check=True
    )
    assert ran.stdout == b"0\n"


def test_a_file_that_cannot_be_read_is_named(tmp_path, log):
    torn = tmp_path / "torn.gz"
    torn.write_bytes(gzip.compress(b"{}" * 1000)[:20])
    for source, reason in [
        (str(tmp_path / "none*"), "no such file"),
        (str(tmp_path), "is a directory"),
        (str(torn), "GZIP"),
    ]:
        with pytest.raises(LogsError, match=reason) as raised, decisions_of([log(), source]):
            pass
        assert source in str(raised.value)
