"""Work that is repeated beside the calls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog
from prometheus_client import Counter

from stepup.domain.errors import StoreUnavailableError
from stepup.telemetry.limited_lines import LimitedLines

RUN_SECONDS: Final = 60.0
"""How long one run may take by default before it is cancelled."""
PAUSE_SECONDS: Final = 1.0
"""The shortest pause after a failed run, so that a bug does not use all CPU time."""
_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_background_failures",
    "Runs of work beside the calls that failed with an unexpected error, or took too long.",
)


def repeat(
    work: Callable[[], Awaitable[None]],
    seconds: float,
    stack: AsyncExitStack,
    run_seconds: float = RUN_SECONDS,
) -> None:
    """Run work again and again, after a pause each time, until the stack is left.

    The next run follows even if a run fails; only the end of the stack ends the work.

    Args:
        work: one run.
        seconds: the pause before each run.
        stack: cancels the work when it is left.
        run_seconds: a run that takes longer is cancelled.
    """
    task = asyncio.create_task(run_for_ever(work, seconds, run_seconds))
    stack.push_async_callback(_cancelled, task)


async def run_for_ever(
    work: Callable[[], Awaitable[None]], seconds: float, run_seconds: float | None = RUN_SECONDS
) -> None:
    """Run work again and again until this task is cancelled: see `repeat`.

    If `run_seconds` is None, a run may take any time, and so may wait for something to do.
    """
    pause = seconds
    lines = LimitedLines()
    while True:
        await asyncio.sleep(pause)
        pause = max(seconds, PAUSE_SECONDS)
        try:
            async with asyncio.timeout(run_seconds):
                await work()
            pause = seconds
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            with suppress(Exception):
                _report(error, lines)


_faults = LimitedLines()
"""Several works meet the same fault each second, for as long as an outage lasts."""


def report_fault(error: StoreUnavailableError) -> None:
    """Log why a store is unavailable: a new reason at once, and then once a minute with a count."""
    if failures := _faults.count(error.fault):
        _log.warning("store_unavailable", problem=error.fault, failures=failures)


def _report(error: BaseException, lines: LimitedLines) -> None:
    if isinstance(error, StoreUnavailableError):
        report_fault(error)
        return
    _failures.inc()
    if failures := lines.count(type(error).__name__):
        _log.error("background_work_failed", failures=failures, exc_info=error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
