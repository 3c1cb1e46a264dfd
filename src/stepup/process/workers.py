"""`stepup serve --workers N`: the supervisor process of N servers on one port.

The supervisor has what a machine has once: the port, the embedded store, metrics and probes. It
passes their addresses to the workers as flags, which win over the rest of the configuration. The
kernel spreads connections over the workers (SO_REUSEPORT), and ends them with the supervisor.

SIGTERM and SIGINT end all workers, SIGHUP reloads all, SIGUSR2 restarts one after the other.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from stepup.process.serving import write_address
from stepup.process.signals import signals_handled, stop_event
from stepup.process.supervisor import Supervisor
from stepup.process.worker_main import Flags, WorkerOrder
from stepup.service.upkeep.background import run_for_ever
from stepup.settings import ConfigurationError, Settings
from stepup.system.children import ending_with_this_process
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import metrics_of_workers
from stepup.telemetry.worker_metrics import METRICS_DIRECTORY
from stepup.wiring.credentials import demand_credentials
from stepup.wiring.database import make_data_dir
from stepup.wiring.server import answer_probes, serve_metrics
from stepup.wiring.stores import url_of_redis


async def run_workers(
    settings: Settings, config_file: Path | None, flags: Flags, manager: ServiceManager
) -> int:
    """Run workers, which read the same configuration, until SIGTERM or SIGINT.

    Returns:
        The exit status: not 0 when the first worker did not come up. The worker has written why.

    Raises:
        ConfigurationError: the settings of the supervisor cannot be put into effect.
    """
    if sys.platform != "linux":
        raise ConfigurationError("server.workers: more than one needs Linux")
    demand_credentials(settings)
    stop, restart = stop_event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        address = _reserve_address(settings, stack)
        shared = await _open_shared_parts(settings, address, stack)
        order = WorkerOrder(config_file, _merged(flags, shared), report_to=-1)
        supervisor = Supervisor(
            partial(_worker_command, order), settings.server.workers, settings.server.drain_seconds
        )
        if settings.metrics is not None:
            _serve_metrics_of_workers(supervisor, settings, stack)
        await answer_probes(settings, lambda: supervisor.serving_names, stack)
        stack.push_async_callback(supervisor.terminate)
        ready = partial(manager.report_ready, f"{settings.server.workers} workers on {address}")

        def reload() -> None:
            # The workers report the outcome in the log only.
            manager.report_reloading()
            supervisor.send_signal(signal.SIGHUP)
            ready()

        stack.enter_context(signals_handled({signal.SIGHUP: reload, signal.SIGUSR2: restart.set}))
        stack.callback(manager.report_stopping)
        return await _run_until(stop, start_and_restart(supervisor, address, restart, ready))


def _worker_command(order: WorkerOrder, report_to: int) -> list[str]:
    text = replace(order, report_to=report_to).encode()
    # -P: the worker imports nothing from the current directory.
    return ending_with_this_process([sys.executable, "-P", "-m", "stepup", "worker", text])


def _reserve_address(settings: Settings, stack: AsyncExitStack) -> str:
    server = settings.server
    try:
        port = stack.enter_context(reserved_port(server.host, server.port))
    except OSError as error:
        raise ConfigurationError(
            f"server.listen: cannot listen on {server.listen}: {error.strerror}"
        ) from error
    return server.address(port)


async def _open_shared_parts(settings: Settings, address: str, stack: AsyncExitStack) -> Flags:
    """Start the embedded store if need be; returns the flags that all workers have in common."""
    server = settings.server
    shared: Flags = {
        "server": {
            "listen": address,
            "workers": server.workers,
            "drain_seconds": server.drain_seconds,
        }
    }
    if settings.storage.redis_url is None:
        make_data_dir(settings)
        shared["storage"] = {"redis_url": await url_of_redis(settings, stack)}
    return shared


def _merged(flags: Flags, shared: Flags) -> Flags:
    return {
        section: {**flags.get(section, {}), **shared.get(section, {})}
        for section in flags.keys() | shared.keys()
    }


def _serve_metrics_of_workers(
    supervisor: Supervisor, settings: Settings, stack: AsyncExitStack
) -> None:
    """Serve the metrics of all workers together, and the supervisor's own metrics."""
    try:
        directory = stack.enter_context(TemporaryDirectory(prefix="stepup-"))
    except OSError as error:
        raise ConfigurationError(
            f"metrics: several workers need a temporary directory: {error.strerror}"
        ) from error
    supervisor.environment[METRICS_DIRECTORY] = directory
    registry = CollectorRegistry()
    supervisor.on_exit = metrics_of_workers(registry, Path(directory)).take_over
    registry.register(_SupervisorMetrics(supervisor))
    serve_metrics(settings, stack, registry)


class _SupervisorMetrics(Collector):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "stepup_workers_serving", "Workers that can decide.", self._supervisor.serving
        )
        yield CounterMetricFamily(
            "stepup_worker_failures",
            "Workers that ended by themselves; each is followed by another.",
            self._supervisor.failures,
        )


async def start_and_restart(
    supervisor: Supervisor, address: str, restart: asyncio.Event, report_ready: Callable[[], None]
) -> int:
    """Start the workers, report that they serve, and replace them all when `restart` is set.

    Returns:
        The exit status of the first worker, at least 1, if it did not come up. Otherwise the
        function does not return.
    """
    status = await supervisor.start()
    if status is not None:
        return status if status > 0 else 1
    write_address(address)
    report_ready()

    async def replace_all() -> None:
        await restart.wait()
        restart.clear()
        await supervisor.replace_all()

    await run_for_ever(replace_all, 0, run_seconds=None)
    return 0


async def _run_until(stop: asyncio.Event, work: Coroutine[Any, Any, int]) -> int:
    """Run work until it ends or `stop` is set; returns its result, or 0 if it was cancelled."""
    tasks = working, _ = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return 0 if working.cancelled() else working.result()


@contextmanager
def reserved_port(host: str, port: int) -> Iterator[int]:
    """Reserve a port, during the block, for this user's sockets with SO_REUSEPORT.

    The reservation does not listen. A second reservation of the port fails.

    Args:
        host: a name or an address.
        port: 0 takes a free port.

    Yields:
        The port.

    Raises:
        OSError: another process has the port, or the host is not of this machine.
    """
    with ExitStack() as stack:
        for family, *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            reserved = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # Connections that were closed do not prevent this; a process that listens does.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((address[0], port, *address[2:]))
            port = reserved.getsockname()[1]
            # The kernel compares these options when the next socket binds, not before.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield port
