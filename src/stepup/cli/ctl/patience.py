"""Waits where a server asks a command to slow down."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

from stepup.client import UnavailableError

_Answer = TypeVar("_Answer")
_REFUSED_BEFORE_WORK: Final = frozenset({"CALLER_RATE_LIMITED", "OVERLOADED"})
"""The reasons of refusals after which nothing has happened: the same call may be sent again."""
_LONGEST_PAUSE: Final = timedelta(minutes=1)
_TRIES: Final = 10


def call_patiently(call: Callable[[], _Answer]) -> _Answer:
    """Make a call; wait and repeat it while the caller is over its rate, or the server is busy.

    Raises:
        StepUpError: the call failed, or the server refused it ten times.
    """
    for _ in range(_TRIES - 1):
        try:
            return call()
        except UnavailableError as error:
            pause = error.retry_after
            if error.reason not in _REFUSED_BEFORE_WORK or pause is None or pause > _LONGEST_PAUSE:
                raise
            time.sleep(pause.total_seconds())
    return call()
