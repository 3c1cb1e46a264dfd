"""Work that is done again and again beside the calls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from stepup.domain.errors import StoreUnavailableError

_log = structlog.get_logger(__name__)


def repeat(work: Callable[[], Awaitable[None]], seconds: float, stack: AsyncExitStack) -> None:
    """Do something every so often until the stack is left, the first time after as long.

    Whatever becomes of it, it is tried again: what is not done in time shows elsewhere.
    """
    task = asyncio.create_task(_again_and_again(work, seconds))
    stack.push_async_callback(_cancelled, task)


async def _again_and_again(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except StoreUnavailableError as error:
            _log.warning("store_unavailable", problem=str(error))
        except Exception as error:  # noqa: BLE001  # a loop that ended would go unnoticed
            _log.error("background_work_failed", exc_info=error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
