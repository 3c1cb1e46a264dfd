"""Work that is repeated beside the calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog
from prometheus_client import Counter

from stepup.domain.errors import StoreUnavailableError

RUN_SECONDS: Final = 60.0
"""How long one run may take by default before it is cancelled."""
PAUSE_SECONDS: Final = 1.0
"""The shortest pause after a failed run, so that a bug does not use all CPU time."""
SECONDS_BETWEEN_LINES: Final = 60.0
"""While a store stays unavailable for one reason, the log says so once in this time."""
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
                _report(error)


class Faults:
    """Logs why stores are unavailable: a new reason at once, and the same one once a minute.

    Several works meet the same fault each second, for as long as an outage lasts.
    """

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def report(self, problem: str) -> None:
        """Log the problem, unless a line of the last minute has it."""
        now = time.monotonic()
        self._logged = {
            logged: at for logged, at in self._logged.items() if now - at < SECONDS_BETWEEN_LINES
        }
        if problem not in self._logged:
            self._logged[problem] = now
            _log.warning("store_unavailable", problem=problem)


_faults = Faults()


def _report(error: BaseException) -> None:
    if isinstance(error, StoreUnavailableError):
        _faults.report(error.fault)
        return
    _failures.inc()
    _log.error("background_work_failed", exc_info=error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
