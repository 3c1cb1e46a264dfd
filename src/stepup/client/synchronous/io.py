"""What the synchronous client does otherwise than the asynchronous one: `asynchronous/io.py`."""

from __future__ import annotations

import concurrent.futures
import inspect
import time
from typing import Any, Final, TypeAlias, TypeVar

import grpc

Channel: TypeAlias = grpc.Channel
sleep: Final = time.sleep
LOCAL_ERRORS: Final = (ValueError, TypeError)
"""What a channel raises if it is closed, or cannot send what it got."""
CANCELLED: Final[tuple[type[BaseException], ...]] = ()
"""Nothing: no call of a thread is cancelled."""
TIMEOUTS: Final[tuple[type[BaseException], ...]] = (TimeoutError, concurrent.futures.TimeoutError)
"""What Python raises when an action takes too long."""

_T = TypeVar("_T")


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Any,
) -> Channel:
    """Open a channel."""
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def close_channel(channel: Channel, _grace: float) -> None:
    """Close a channel. Calls in flight end with an error."""
    channel.close()


def is_cancelled() -> bool:
    """Whether the running task is being cancelled: a thread never is."""
    return False


def settled(value: _T, _seconds: float | None = None) -> _T:
    """Return the value.

    Raises:
        TypeError: it would have to be awaited, which nobody does here.
    """
    if inspect.isawaitable(value):
        raise TypeError("StepUpClient takes no asynchronous function: use AsyncStepUpClient")
    return value
