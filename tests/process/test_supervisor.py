"""Workers that are shell scripts: when the supervisor starts, terminates and kills them."""

import asyncio
import os
import re
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from stepup.process import supervisor as module
from stepup.process import worker as worker_module
from stepup.process.supervisor import Supervisor, backoff_seconds
from stepup.process.worker import Worker

SERVES = "echo -n 1 >&{fd}; exec sleep 60"
NEVER_SERVES = "exec sleep 60"
TALKS = "while :; do echo -n 1 >&{fd}; sleep 0.2; done"
FAILS = "exit 7"
SERVES_AND_FAILS = "echo -n 1 >&{fd}; exit 7"
NOT_NOW = "echo -n 0 >&{fd}; sleep 0.1; echo -n 1 >&{fd}; exec sleep 60"
DEAF = "trap '' TERM; echo -n 1 >&{fd}; while :; do sleep 0.01; done"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "LATE_SECONDS", 0.2)
    monkeypatch.setattr(module, "backoff_seconds", lambda _: 0)


def commands(*scripts):
    """The scripts of workers, one after the other; the last is that of all further ones."""
    left = list(scripts)
    if callable(left[0]):
        return left[0]

    def command(descriptor):
        script = left.pop(0) if len(left) > 1 else left[0]
        return ["bash", "-c", script.format(fd=descriptor)]

    return command


@asynccontextmanager
async def supervising(*scripts, count=2):
    """A supervisor, and what it logs."""
    with structlog.testing.capture_logs() as lines:
        supervisor = Supervisor(commands(*scripts), count, drain_seconds=0.1)
        async with asyncio.timeout(20):
            try:
                yield supervisor, lines
            finally:
                await supervisor.terminate()
    assert supervisor.serving == 0


def pids(lines, event):
    return [line["pid"] for line in lines if line["event"] == event]


def events(lines):
    return [line["event"] for line in lines]


async def until(holds):
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  # what happens happens in other processes
            await asyncio.sleep(0.005)


async def test_when_the_first_cannot_serve_no_other_is_started():
    async with supervising(FAILS) as (supervisor, lines):
        assert await supervisor.start() == 7
        assert len(pids(lines, "worker_started")) == 1


async def test_another_that_cannot_serve_is_started_again():
    async with supervising(SERVES, FAILS, FAILS, SERVES) as (supervisor, _):
        assert await supervisor.start() is None
        assert supervisor.serving == 2
        assert supervisor.failures == 2


async def test_each_failure_in_a_row_makes_the_next_worker_wait_longer(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "backoff_seconds", lambda failures: asked.append(failures) or 0)
    async with supervising(SERVES, SERVES_AND_FAILS) as (supervisor, _):
        await supervisor.start()
        await until(lambda: len(asked) >= 3)
    assert asked[:3] == [1, 2, 3]


async def test_a_worker_that_has_lived_long_fails_for_the_first_time(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "backoff_seconds", lambda failures: asked.append(failures) or 0)
    monkeypatch.setattr(module, "STEADY_SECONDS", 0)
    async with supervising(SERVES, SERVES_AND_FAILS) as (supervisor, _):
        await supervisor.start()
        await until(lambda: len(asked) >= 3)
    assert asked[:3] == [1, 1, 1]


async def test_a_worker_that_does_not_come_up_in_time_is_killed(monkeypatch):
    monkeypatch.setattr(worker_module, "START_SECONDS", 0.05)
    async with supervising(NEVER_SERVES) as (supervisor, lines):
        assert await supervisor.start() == -signal.SIGKILL
        assert len(pids(lines, "worker_does_not_come_up")) == 1


async def test_a_worker_that_does_not_end_in_time_is_killed():
    async with supervising(DEAF) as (supervisor, lines):
        await supervisor.start()
        started = pids(lines, "worker_started")
        await supervisor.terminate()
        assert sorted(pids(lines, "worker_killed")) == sorted(started)


async def test_a_silent_worker_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr(worker_module, "SILENT_SECONDS", 2)
    async with supervising(SERVES, TALKS, count=1) as (supervisor, lines):
        await supervisor.start()
        [silent] = pids(lines, "worker_started")
        await until(lambda: pids(lines, "worker_ended"))
        assert pids(lines, "worker_hangs") == pids(lines, "worker_ended") == [silent]
        await until(lambda: supervisor.serving == 1)
        await asyncio.sleep(3)  # longer than one may be silent
        assert pids(lines, "worker_ended") == [silent]
        assert supervisor.failures == 1


async def test_a_worker_that_reports_not_to_serve_is_kept(tmp_path):
    script = f"echo -n 1 >&{{fd}}; until [ -e {tmp_path}/x ]; do sleep 0.01; done; " + NOT_NOW
    async with supervising(script, count=1) as (supervisor, lines):
        await supervisor.start()
        (tmp_path / "x").touch()
        await until(lambda: supervisor.serving == 0)
        await until(lambda: supervisor.serving == 1)
        assert len(pids(lines, "worker_started")) == 1


async def test_a_worker_that_is_terminated_does_not_count_as_serving():
    async with supervising(DEAF) as (supervisor, _):
        await supervisor.start()
        stopping = asyncio.create_task(supervisor.terminate())
        await until(lambda: supervisor.serving == 0)
        assert not stopping.done()
        await stopping


async def test_a_worker_that_still_comes_up_is_terminated_as_well():
    async with supervising(SERVES, NEVER_SERVES) as (supervisor, lines):
        starting = asyncio.create_task(supervisor.start())
        await until(lambda: len(pids(lines, "worker_started")) == 2)
        ended = []
        supervisor.on_exit = ended.append
        starting.cancel()
        await supervisor.terminate()
        assert sorted(ended) == sorted(pids(lines, "worker_started"))


async def test_a_new_worker_serves_before_the_old_worker_is_terminated():
    serving = []
    async with supervising(SERVES) as (supervisor, lines):
        await supervisor.start()
        supervisor.on_exit = lambda pid: serving.append((pid, supervisor.serving))
        old = pids(lines, "worker_started")
        await supervisor.replace_all()
        assert serving == [(pid, 2) for pid in old]
        assert supervisor.failures == 0
        assert len(pids(lines, "worker_started")) == 4


async def test_a_replacement_that_cannot_serve_leaves_the_rest_as_it_is():
    ended = []
    async with supervising(SERVES, SERVES, FAILS) as (supervisor, lines):
        await supervisor.start()
        supervisor.on_exit = ended.append
        await supervisor.replace_all()
        assert supervisor.serving == 2
        assert ended == pids(lines, "restart_given_up") == pids(lines, "worker_started")[2:]


async def test_a_closed_slot_is_not_filled_again():
    async with supervising(SERVES) as (supervisor, lines):
        await supervisor.start()
        await supervisor.replace_all()
        await asyncio.sleep(0.1)
        assert len(pids(lines, "worker_started")) == 4


async def test_signals_reach_workers_that_do_not_serve_yet(tmp_path):
    listens = tmp_path / "listens"
    script = f"trap 'echo -n 1 >&{{fd}}' USR1; touch {listens}; while :; do sleep 0.01; done"
    async with supervising(script, count=1) as (supervisor, _):
        starting = asyncio.create_task(supervisor.start())
        await until(listens.exists)
        assert supervisor.serving == 0
        supervisor.send_signal(signal.SIGUSR1)
        await starting
        assert supervisor.serving == 1


class Program:
    """A worker's program, which may be away for a while."""

    def __init__(self):
        self.is_there = True

    def __call__(self, descriptor):
        there = ["bash", "-c", SERVES.format(fd=descriptor)]
        return there if self.is_there else ["/nowhere/to/be/found"]


async def test_a_worker_that_cannot_be_started_is_tried_again():
    program = Program()
    async with supervising(program, count=1) as (supervisor, lines):
        await supervisor.start()
        program.is_there = False
        supervisor.send_signal(signal.SIGKILL)
        await until(lambda: "worker_not_started" in events(lines))
        program.is_there = True
        await until(lambda: supervisor.serving == 1)


async def test_a_replacement_that_cannot_be_started_leaves_the_rest_as_it_is():
    program = Program()
    async with supervising(program) as (supervisor, lines):
        await supervisor.start()
        program.is_there = False
        await supervisor.replace_all()
        assert supervisor.serving == 2
        assert "restart_given_up" in events(lines)
        assert "workers_restarted" not in events(lines)


def blocked_by(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    [blocked] = re.findall(r"^SigBlk:\s*(\w+)$", status, flags=re.MULTILINE)
    return {number for number in signal.Signals if int(blocked, 16) >> number - 1 & 1}


async def test_a_worker_starts_with_the_signals_blocked_that_it_cannot_handle_yet():
    worker = await Worker.start(commands(SERVES), dict(os.environ))
    try:
        assert blocked_by(worker.pid) == {signal.SIGHUP, signal.SIGUSR2}
        assert not {signal.SIGHUP, signal.SIGUSR2} & blocked_by(os.getpid())
    finally:
        await worker.terminate(1)


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 0.2), (2, 0.4), (5, 3.2), (9, 30), (1_000_000, 30)]
)
def test_the_back_off_doubles_up_to_a_limit_and_half_of_it_is_chance(failures, longest):
    delays = [backoff_seconds(failures) for _ in range(200)]
    assert longest / 2 <= min(delays) < longest * 0.6
    assert longest * 0.9 < max(delays) <= longest


async def test_s17_a_slot_is_filled_again_whatever_goes_wrong():
    """The files of the metrics are gone; a worker cannot be started, and then it can."""
    started = iter([SERVES, SERVES_AND_FAILS, None, SERVES])

    def command(descriptor):
        script = next(started)
        if script is None:
            raise RuntimeError("a bug")
        return ["bash", "-c", script.format(fd=descriptor)]

    def gone(_pid):
        raise FileNotFoundError

    async with supervising(command) as (supervisor, lines):
        supervisor.on_exit = gone
        await supervisor.start()
        await until(lambda: len(pids(lines, "worker_started")) == 3 and supervisor.serving == 2)
    assert "worker_not_started" in events(lines)
