"""What the asynchronous client does otherwise than the synchronous one: `synchronous/io.py`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Final, NoReturn, ParamSpec, TypeAlias, TypeVar

import grpc
import grpc.aio

Channel: TypeAlias = grpc.aio.Channel
sleep: Final = asyncio.sleep
LOCAL_ERRORS: Final = (grpc.aio.UsageError, grpc.aio.InternalError, ValueError, TypeError)
"""What a channel raises if it is closed, or cannot send what it got."""
CANCELLED: Final[tuple[type[BaseException], ...]] = (asyncio.CancelledError,)
"""What a call raises that is cancelled, or whose channel is closed."""
TIMEOUTS: Final[tuple[type[BaseException], ...]] = (TimeoutError, asyncio.TimeoutError)
"""What Python raises when an action takes too long."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    options: Any,
) -> Channel:
    """Open a channel in the running event loop."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


async def close_channel(channel: Channel, grace: float) -> None:
    """Close a channel. Calls in flight have `grace` seconds to end."""
    await channel.close(grace)


def is_cancelled() -> bool:
    """Whether the running task is being cancelled. Python 3.10 does not know: then it may be."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


async def settled(value: Awaitable[_T] | _T, seconds: float | None = None) -> _T:
    """Return the value, awaited where it is an awaitable.

    Raises:
        TimeoutError: it takes longer than `seconds`.
    """
    if inspect.isawaitable(value):
        awaited: _T = await asyncio.wait_for(value, seconds)
        return awaited
    return value


class _Call(Coroutine[Any, Any, _T]):
    """A coroutine without truth value: `if client.check(...):` without `await` must not be true."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine

    def __bool__(self) -> NoReturn:
        raise TypeError("the call has not been made: await it")

    def __await__(self) -> Generator[Any, Any, _T]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()


def no_truth_value(
    method: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Make a method whose coroutine raises where its truth is asked for, instead of being true."""

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _Call[_T]:
        return _Call(method(*args, **kwargs))

    return call
