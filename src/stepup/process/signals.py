"""The signals of a server. `__main__` blocks SIGHUP and SIGUSR2 until the server handles them."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def signals_handled(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Handle signals on the event loop, those included that arrived while they were blocked.

    After the block the signals are ignored: they must not crash a process that shuts down.
    """
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers.keys())
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def reload_signals_blocked() -> Iterator[None]:
    """Start processes in the block with SIGHUP and SIGUSR2 blocked: they cannot handle them yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
