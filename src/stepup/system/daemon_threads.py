"""Blocking work with a deadline, on threads that never keep the process alive.

`asyncio.to_thread` has no deadline, and the end of the event loop waits for its threads.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def call_within(seconds: float, work: Callable[[], T]) -> T:
    """Call a function on a thread, and wait for its result for a limited time.

    After that time the function still runs, and its result is dropped. It must end at some time.

    Raises:
        TimeoutError: the function has not returned in time.
    """
    return _start(work).result(seconds)


async def await_within(seconds: float, work: Callable[[], T]) -> T:
    """Call a function as `call_within` does, without blocking the event loop.

    Raises:
        TimeoutError: the function has not returned in time.
    """
    return await asyncio.wait_for(asyncio.wrap_future(_start(work)), seconds)


def _start(work: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()
    # A caller that gives up can no longer cancel the future: the thread can always set a result.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # the caller gets the error
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="stepup-deadline", daemon=True).start()
    return future
