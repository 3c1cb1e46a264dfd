"""Blocking work with a deadline, on threads that never keep the process alive.

`asyncio.to_thread` has neither: the end of the event loop waits for the threads of its executor.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def call_within(seconds: float, work: Callable[[], T]) -> T:
    """Call a function and wait for its result, for a limited time.

    Args:
        seconds: how long to wait. Afterwards the function still runs, and its result is dropped.
        work: the function. It should end by itself some time.

    Raises:
        TimeoutError: the function has not returned in time.
    """
    return _started(work).result(seconds)


async def await_within(seconds: float, work: Callable[[], T]) -> T:
    """Do the same without blocking the event loop: see `call_within`.

    Raises:
        TimeoutError: the function has not returned in time.
    """
    return await asyncio.wait_for(asyncio.wrap_future(_started(work)), seconds)


def _started(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    # From now on a waiter that gives up cannot cancel it, and the thread can always set a result.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # the waiter gets it, whatever it is
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="stepup-deadline", daemon=True).start()
    return future
