"""The process of `stepup serve`: it runs until it is told to end, and a hangup (SIGHUP) reloads."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import Counter

from stepup.process.signals import heeding, told_to_end
from stepup.service.upkeep.background import run_for_ever
from stepup.settings import ConfigurationError, Settings
from stepup.system.outlet import Outlet
from stepup.wiring.running_server import RunningServer
from stepup.wiring.server import running

_COLLECTED_EVERY = (25_000, 20, 50)
"""Allocations before the youngest are looked at, and collections before the older ones are."""

_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_configuration_reload_failures",
    "Reloads of the configuration that were refused; what was in effect before still is.",
)


async def serve_until_told(
    settings: Settings,
    load: Callable[[], Settings],
    tell: Callable[[RunningServer], Coroutine[Any, Any, None]],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: those that it starts with.
        load: reads them again, from where they came from; it is called on another thread.
        tell: tells whoever started it that it serves.

    Raises:
        ConfigurationError: as `wiring.server.running`.
        StoreUnavailableError: likewise.
    """
    told, hung_up = told_to_end(), asyncio.Event()
    with heeding({signal.SIGHUP: hung_up.set}):
        async with running(settings) as server:
            settle_memory()
            beside = [
                asyncio.create_task(work)
                for work in (tell(server), reload_whenever(hung_up, server, load))
            ]
            await told.wait()
            for work in beside:
                work.cancel()
            await asyncio.wait(beside)


async def say(server: RunningServer) -> None:
    """Say where it listens."""
    say_address(server.address)


def say_address(address: str) -> None:
    """Write the one line on standard output, which is for who starts a server on port 0.

    Whether it can be written does not matter to those who are served.
    """
    with suppress(OSError, AttributeError):
        outlet = Outlet.to(sys.stdout)
        outlet.write(f"stepup is listening on {address}\n".encode())
        outlet.close()


async def reload_whenever(
    hung_up: asyncio.Event, server: RunningServer, load: Callable[[], Settings]
) -> None:
    """Reload at each hangup, one reload after the other; it never ends by itself.

    Hangups that come while one is at work are one more: it reads what is there after them.
    """

    async def reload() -> None:
        await hung_up.wait()
        hung_up.clear()
        server.reopen_decision_log()
        try:
            server.reload(await asyncio.to_thread(load))
        except ConfigurationError as error:
            _refused(str(error).split("\n"))
        except Exception as error:  # noqa: BLE001  # whatever it is, the server goes on as it was
            # Without its text, which could have values (S11).
            _refused([f"cannot be read: {type(error).__name__}"])

    await run_for_ever(reload, 0, run_seconds=None)


def _refused(problems: list[str]) -> None:
    _failures.inc()
    _log.error("configuration_not_reloaded", problems=problems)


def settle_memory() -> None:
    """Let the garbage collector pass over what lives as long as the process.

    Calls leave no cycles behind, but each collection would look at all modules and classes again:
    a fifth of all time, and pauses of a tenth of a second (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_EVERY)
