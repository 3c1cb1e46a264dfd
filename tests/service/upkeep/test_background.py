"""Work beside the calls: whatever becomes of a run, the next one follows."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from stepup_tests.clock import ManualClock
from stepup_tests.metrics import metric
from structlog.testing import capture_logs

from stepup.domain.errors import StoreUnavailableError
from stepup.service.upkeep import background
from stepup.telemetry import limited_lines


class Broken(BaseException):
    """Not even an `Exception`."""


async def hang():
    await asyncio.Event().wait()


def raising(error):
    async def fail():
        raise error

    return fail


async def cancelled_within():
    task = asyncio.create_task(hang())
    task.cancel()
    await task


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0)


@pytest.fixture(params=[False, True], ids=["", "and so does logging"])
def logging_fails(request, monkeypatch):
    if request.param:

        class Log:
            def warning(self, *_args, **_fields):
                raise BrokenPipeError

            error = warning

        monkeypatch.setattr(background, "_log", Log())


@pytest.mark.usefixtures("logging_fails")
@pytest.mark.parametrize(
    "fail",
    [
        raising(StoreUnavailableError("gone")),
        raising(RuntimeError("a bug")),
        raising(TimeoutError()),
        raising(asyncio.CancelledError()),
        raising(Broken()),
        cancelled_within,
        hang,
    ],
    ids=["store", "bug", "timeout", "cancelled", "base", "cancelled within", "hangs"],
)
async def test_s17_work_that_failed_is_done_again(fail):
    done = asyncio.Event()
    runs = [fail, fail]

    async def work():
        if runs:
            await runs.pop()()
        done.set()

    async with AsyncExitStack() as stack:
        background.repeat(work, 0, stack, run_seconds=0.01)
        await asyncio.wait_for(done.wait(), 10)


async def test_only_unexpected_failures_are_counted():
    before = metric("stepup_background_failures_total")
    failures = [raising(StoreUnavailableError("gone")), raising(RuntimeError())]
    done = asyncio.Event()

    async def work():
        if failures:
            await failures.pop()()
        done.set()

    async with AsyncExitStack() as stack:
        background.repeat(work, 0, stack)
        await asyncio.wait_for(done.wait(), 10)
    assert metric("stepup_background_failures_total") - before == 1


async def test_an_interrupt_is_no_failure_of_the_work():
    with pytest.raises(KeyboardInterrupt):
        await background.run_for_ever(raising(KeyboardInterrupt()), 0)


async def test_it_ends_with_its_stack():
    async with AsyncExitStack() as stack:
        background.repeat(hang, 0, stack)
        await asyncio.sleep(0)
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
    assert task.cancelled()


async def test_it_ends_though_work_is_under_way():
    began = asyncio.Event()

    async def work():
        began.set()
        await hang()

    async with AsyncExitStack() as stack:
        background.repeat(work, 0, stack)
        await began.wait()
        [task] = asyncio.all_tasks() - {asyncio.current_task()}
    assert task.cancelled()


async def test_work_that_fails_at_once_does_not_spin(monkeypatch):
    monkeypatch.setattr(background, "PAUSE_SECONDS", 60)
    runs = []

    async def work():
        runs.append(1)
        raise RuntimeError

    async with AsyncExitStack() as stack:
        background.repeat(work, 0, stack)
        for _ in range(100):
            await asyncio.sleep(0)
    assert runs == [1]


@pytest.mark.parametrize(
    ("error", "event"),
    [(StoreUnavailableError("gone"), "store_unavailable"), (OSError(), "background_work_failed")],
    ids=["store", "bug"],
)
async def test_work_that_fails_again_and_again_fills_no_log(monkeypatch, error, event):
    clock = ManualClock()
    monkeypatch.setattr(limited_lines, "time", clock)
    monkeypatch.setattr(background, "_faults", limited_lines.LimitedLines())
    runs = []

    async def work():
        runs.append(1)
        if len(runs) == 6:
            clock.advance(minutes=1)
        raise error

    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            background.repeat(work, 0, stack)
            for _ in range(100):
                await asyncio.sleep(0)
    assert [(line["event"], line["failures"]) for line in lines] == [(event, 1), (event, 5)]


async def test_several_works_share_the_lines_about_a_store(monkeypatch):
    monkeypatch.setattr(background, "_faults", limited_lines.LimitedLines())
    with capture_logs() as lines:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                background.repeat(raising(StoreUnavailableError("gone")), 0, stack)
            for _ in range(20):
                await asyncio.sleep(0)
    assert [line["event"] for line in lines] == ["store_unavailable"]
