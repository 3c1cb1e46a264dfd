"""Signals that mean something to a server, and are held back while it starts (`__main__`)."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def heeding(meanings: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Heed signals from now on; those that were held back since the start of the process as well.

    After the block they are ignored: the end is under way, and they must not make a crash of it.
    """
    loop = asyncio.get_running_loop()
    for number, heed in meanings.items():
        loop.add_signal_handler(number, heed)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, meanings.keys())
    try:
        yield
    finally:
        for number in meanings:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back() -> Iterator[None]:
    """Have processes that are started in the block hold back what they cannot heed yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def told_to_end() -> asyncio.Event:
    """What SIGTERM or SIGINT sets, from now on."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told
