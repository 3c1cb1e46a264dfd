"""A serving process: it serves until SIGTERM or SIGINT, and a hangup (SIGHUP) reloads."""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import Any

import structlog
from prometheus_client import Counter

from stepup.process.signals import signals_handled, stop_event
from stepup.rpc.identity.handshakes import HandshakeFailures
from stepup.service.upkeep.background import run_for_ever
from stepup.settings import ConfigurationError, Settings
from stepup.system.clock import SystemClock
from stepup.system.core_log import core_log_read
from stepup.system.outlet import Outlet
from stepup.system.service_manager import ServiceManager
from stepup.wiring.running_server import RunningServer
from stepup.wiring.server import running

_GC_THRESHOLDS = (25_000, 20, 50)
"""Allocations until a collection of the youngest objects, and collections until the older ones."""

_log = structlog.get_logger(__name__)
_failures = Counter(
    "stepup_configuration_reload_failures",
    "Reloads of the configuration that were refused; what was in effect before still is.",
)


async def serve_until_stopped(
    settings: Settings,
    load: Callable[[], Settings],
    announce: Callable[[RunningServer], Coroutine[Any, Any, None]],
    manager: ServiceManager,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: those of the start.
        load: reads the settings again from the same sources; it is called on another thread.
        announce: runs while the server serves, and reports that it does.
        manager: gets notices that the server serves, reloads and stops.

    Raises:
        ConfigurationError: as `wiring.server.running`.
        StoreUnavailableError: likewise.
    """
    stop, hangup = stop_event(), asyncio.Event()
    with signals_handled({signal.SIGHUP: hangup.set}), _handshake_failures_counted(settings):
        async with running(settings) as server:
            exempt_from_collection()
            tasks = [
                asyncio.create_task(work)
                for work in (announce(server), reload_on_hangup(hangup, server, load, manager))
            ]
            manager.report_ready(f"serving on {server.address}")
            await stop.wait()
            manager.report_stopping()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def _handshake_failures_counted(settings: Settings) -> AbstractContextManager[None]:
    """Count and log the TLS handshakes that fail during the block, if the server has TLS."""
    return core_log_read(HandshakeFailures(SystemClock()).read if settings.tls else None)


async def announce_address(server: RunningServer) -> None:
    """Write the address of a server to standard output."""
    write_address(server.address)


def write_address(address: str) -> None:
    """Write the one line on standard output, for programs that start a server on port 0.

    A failure to write is ignored: it concerns no caller of the server.
    """
    with suppress(OSError, AttributeError):
        outlet = Outlet.to(sys.stdout)
        outlet.write(f"stepup is listening on {address}\n".encode())
        outlet.close()


async def reload_on_hangup(
    hangup: asyncio.Event,
    server: RunningServer,
    load: Callable[[], Settings],
    manager: ServiceManager,
) -> None:
    """Reload at each hangup, one reload after the other; never returns.

    The hangups that arrive during a reload cause one further reload, which reads the files as they
    are after these hangups.
    """

    async def reload() -> None:
        await hangup.wait()
        hangup.clear()
        manager.report_reloading()
        status = "the reload failed: see the log"
        try:
            server.reopen_decision_log()
            if await _configuration_is_reloaded(server, load):
                status = "the configuration was read again"
        finally:
            manager.report_ready(f"serving on {server.address}; {status}")

    await run_for_ever(reload, 0, run_seconds=None)


async def _configuration_is_reloaded(server: RunningServer, load: Callable[[], Settings]) -> bool:
    """Reload the configuration; a refusal is counted and logged, and the server keeps its own."""
    try:
        server.reload(await asyncio.to_thread(load))
    except ConfigurationError as error:
        problems = str(error).split("\n")
    except Exception as error:  # noqa: BLE001  # whatever it is, the server keeps its settings
        # Without the error's text, which could contain values (S11).
        problems = [f"cannot be read: {type(error).__name__}"]
    else:
        return True
    _failures.inc()
    _log.error("configuration_not_reloaded", problems=problems)
    return False


def exempt_from_collection() -> None:
    """Exempt the present objects from garbage collection: they live as long as the process.

    Calls create no reference cycles, but each collection would traverse all modules and classes: a
    fifth of all time, and pauses of a tenth of a second (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
