"""Nothing that is secondary stops a server: its log, a store that is away (S13, S17)."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from stepup_tests.e2e.processes import (
    PROGRAMS,
    environment,
    eventually,
    processes_in,
    run,
    temporary_directory,
)
from stepup_tests.postgres import PostgresServer
from stepup_tests.valkey_server import free_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies("embedded", reason="stores of its own"),
]


class Server:
    """A server whose standard error the test chooses, and which is seen by its probes only."""

    def __init__(self, process, directory, probes, metrics):
        self.process = process
        self.data_dir = directory / "data"
        self._probes, self._metrics = probes, metrics

    def ready(self):
        try:
            with urlopen(f"http://127.0.0.1:{self._probes}/ready", timeout=10) as answer:
                return answer.status
        except HTTPError as error:
            with error:
                return error.code
        except OSError:
            return None

    def metric(self, name):
        with urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        [value] = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        return float(value)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def serving(directory, stdout=subprocess.DEVNULL, redirection="", **options):
    probes, metrics = free_port(), free_port()
    (directory / "stepup.toml").write_text(
        f'[probes]\nlisten = "127.0.0.1:{probes}"\n[metrics]\nlisten = "127.0.0.1:{metrics}"\n'
        f"{options.pop('settings', '')}"
    )
    command = (
        f"exec {PROGRAMS}/stepup serve --insecure --listen 127.0.0.1:0"
        f" --config {directory}/stepup.toml --data-dir {directory}/data {redirection}"
    )
    with temporary_directory() as temporary:
        process = subprocess.Popen(
            ["bash", "-c", command],
            env=environment(directory, temporary),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            **options,
        )
        server = Server(process, directory, probes, metrics)
        try:
            eventually(lambda: server.ready() == 200, "it serves")
            yield server
        finally:
            process.kill()
            process.wait()
            for pid in processes_in(server.data_dir):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "redirection",
    [
        "2> >(head -n 2 >/dev/null)",
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param("2>/dev/full", marks=pytest.mark.slow),
    ],
)
def test_s17_without_its_log_a_server_outlives_the_loss_of_its_stores(tmp_path, redirection):
    with serving(tmp_path, redirection=redirection) as server:
        database = server.data_dir / "stepup.db"
        database.rename(tmp_path / "away")
        eventually(lambda: server.ready() == 503, "it says that it cannot decide")
        (tmp_path / "away").rename(database)
        eventually(lambda: server.ready() == 200, "it says that it can again")
        [valkey] = processes_in(server.data_dir / "valkey")
        os.kill(valkey, signal.SIGKILL)
        server.process.send_signal(signal.SIGHUP)
        eventually(
            lambda: processes_in(server.data_dir / "valkey") not in ([], [valkey]),
            "the embedded store is started again",
        )
        assert server.metric("stepup_log_lines_dropped_total") > 0
        assert server.end() == 0


def test_s17_a_log_pipe_that_nobody_empties_does_not_keep_a_server_from_its_work_or_end(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"x" * 65536)
    with serving(tmp_path, stderr=writer) as server:
        for _ in range(20):
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        assert server.ready() == 200
        assert server.end() == 0
    os.close(reader)
    os.close(writer)


def fill(writer):
    """Fill a pipe to the last octet that it takes; returns how many those were."""
    os.set_blocking(writer, False)
    filled = os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    return filled


def test_s13_readiness_follows_a_decision_log_on_a_pipe_and_comes_back(tmp_path):
    reader, writer = os.pipe()
    with serving(tmp_path, stdout=writer, settings='[log]\ndecisions = "-"\n') as server:
        filled = fill(writer)
        eventually(lambda: server.ready() == 503, "it says that no decision can be written")
        while filled > 0:
            filled -= len(os.read(reader, 65536))
        eventually(lambda: server.ready() == 200, "it says that they can again")
        fill(writer)
        assert server.end() == 0
    os.close(reader)
    os.close(writer)


def test_s17_without_its_log_a_server_is_ready_again_after_postgresql_was_away(tmp_path):
    with PostgresServer() as postgresql:
        settings = f'[storage]\ndatabase_url = "{postgresql.url()}"\n'
        (tmp_path / "migrate.toml").write_text(settings)
        migrated = run(
            [PROGRAMS / "stepup", "migrate", "--config", tmp_path / "migrate.toml"], tmp_path
        )
        assert migrated.returncode == 0, migrated.stderr
        with serving(
            tmp_path, redirection="2> >(head -n 2 >/dev/null)", settings=settings
        ) as server:
            postgresql.kill()
            eventually(lambda: server.ready() == 503, "it says that it cannot decide")
            postgresql.start()
            eventually(lambda: server.ready() == 200, "it says that it can again")
            assert server.end() == 0


def test_s17_without_its_log_a_supervisor_replaces_a_worker_that_was_killed(tmp_path):
    with serving(
        tmp_path, redirection="2> >(head -n 2 >/dev/null)", settings="[server]\nworkers = 2\n"
    ) as server:
        eventually(lambda: server.metric("stepup_workers_serving") == 2, "both serve")
        [worker, *_] = children(server.process.pid, "worker")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: server.metric("stepup_worker_failures_total") == 1, "it is missed")
        eventually(lambda: server.metric("stepup_workers_serving") == 2, "another serves")
        assert server.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_s13_without_standard_output_decisions_cannot_go_there(tmp_path, workers):
    (tmp_path / "stepup.toml").write_text('[log]\ndecisions = "-"\n')
    command = f"exec {PROGRAMS}/stepup serve --insecure --listen 127.0.0.1:0 --workers {workers}"
    arguments = f"--config {tmp_path}/stepup.toml --data-dir {tmp_path}/data >&-"
    ended = run(["bash", "-c", f"{command} {arguments}"], tmp_path)
    assert ended.returncode == 2
    assert "log.decisions: " in ended.stderr


def children(parent, word):
    """The processes that a process has started, and whose command has a word."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if int(status[1]) == parent and word.encode() in command:
            found.append(int(entry.name))
    return found
