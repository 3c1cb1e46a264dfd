"""`stepup serve --workers N`: N servers on one port, and the process that they are children of.

What a machine has once is the parent's: the port, the embedded store, metrics and probes. What it
settles goes to the workers as flags, which win over whatever else is configured. The kernel
spreads connections over the workers (SO_REUSEPORT), and ends them with their parent.

SIGTERM and SIGINT end all, SIGHUP reloads all, SIGUSR2 restarts one after the other.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from stepup.process.reserved_port import reserved_port
from stepup.process.serving import say_address, serve_until_told
from stepup.process.signals import heeding, told_to_end
from stepup.process.supervisor import Supervisor
from stepup.process.worker_reports import report
from stepup.service.policy.snapshots import POLL_SECONDS
from stepup.service.upkeep.background import run_for_ever
from stepup.settings import ConfigurationError, Settings
from stepup.telemetry.logs import metrics_of_workers
from stepup.telemetry.worker_metrics import METRICS_DIRECTORY
from stepup.wiring.credentials import demand_credentials
from stepup.wiring.data_dir import make_data_dir
from stepup.wiring.running_server import RunningServer
from stepup.wiring.server import answer_probes, serve_metrics
from stepup.wiring.stores import url_of_redis

Flags: TypeAlias = dict[str, dict[str, Any]]
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told by its parent: where its settings come from, and whom to answer to.

    `parent` is a process id. To `said_on`, a descriptor, it writes a report every second
    (`worker_reports`), and leaves it open.
    """

    config_file: Path | None
    flags: Flags
    parent: int
    said_on: int

    def written(self) -> str:
        """In JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, written: str) -> "Order":
        """From JSON."""
        order = cls(**json.loads(written))
        file = order.config_file
        return cls(Path(file) if file else None, order.flags, order.parent, order.said_on)


async def supervise(settings: Settings, config_file: Path | None, flags: Flags) -> int:
    """Run workers until SIGTERM or SIGINT.

    Args:
        settings: those of the parent.
        config_file: where workers read theirs, too.
        flags: those of the command line.

    Returns:
        The exit status: not 0 when the first worker did not come up; it has said why.

    Raises:
        ConfigurationError: what the parent provides cannot be put into effect.
    """
    if sys.platform != "linux":
        raise ConfigurationError("server.workers: more than one needs Linux")
    demand_credentials(settings)
    told, restart = told_to_end(), asyncio.Event()
    async with AsyncExitStack() as stack:
        address = _reserve_address(settings, stack)
        settled = await _settle(settings, address, stack)
        order = Order(config_file, _with(flags, settled), os.getpid(), said_on=-1)
        supervisor = Supervisor(
            partial(_command, order), settings.server.workers, settings.server.drain_seconds
        )
        if settings.metrics is not None:
            _show(supervisor, settings, stack)
        await answer_probes(settings, lambda: supervisor.serving_names, stack)
        stack.push_async_callback(supervisor.stop)
        reload = partial(supervisor.send, signal.SIGHUP)
        stack.enter_context(heeding({signal.SIGHUP: reload, signal.SIGUSR2: restart.set}))
        return await _until(told, keep_workers(supervisor, address, restart))


def take_order(written: str) -> Order:
    """Read a worker's order, and have the kernel end this process when its parent ends."""
    order = Order.read(written)
    _end_with(order.parent)
    os.set_inheritable(order.said_on, False)
    return order


async def serve_to_order(order: Order, settings: Settings, load: Callable[[], Settings]) -> None:
    """Serve as one of several workers, until SIGTERM or SIGINT: see `serve_until_told`."""
    await serve_until_told(settings, load, partial(report_to_parent, order.said_on))


async def report_to_parent(said_on: int, server: RunningServer) -> None:
    """Report every second to the parent what is served, and so that this one lives."""
    os.set_blocking(said_on, False)

    async def tell() -> None:
        with suppress(BlockingIOError):  # the parent has not listened for hours
            os.write(said_on, report(server.serving()))

    with suppress(OSError):
        await tell()
    await run_for_ever(tell, POLL_SECONDS)


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent does, however that ends."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError("the process cannot be bound to its parent")
    if os.getppid() != parent:
        sys.exit(1)  # it has ended before


def _command(order: Order, said_on: int) -> list[str]:
    """The command of a worker."""
    written = Order(order.config_file, order.flags, order.parent, said_on).written()
    # -P: nothing is imported from where we happen to be.
    return [sys.executable, "-P", "-m", "stepup", "worker", written]


def _reserve_address(settings: Settings, stack: AsyncExitStack) -> str:
    server = settings.server
    try:
        port = stack.enter_context(reserved_port(server.host, server.port))
    except OSError as error:
        raise ConfigurationError(
            f"server.listen: cannot listen on {server.listen}: {error.strerror}"
        ) from error
    return server.address(port)


async def _settle(settings: Settings, address: str, stack: AsyncExitStack) -> Flags:
    """What is the same for all workers, whatever their configuration says."""
    server = settings.server
    settled: Flags = {
        "server": {
            "listen": address,
            "workers": server.workers,
            "drain_seconds": server.drain_seconds,
        }
    }
    if settings.storage.redis_url is None:
        make_data_dir(settings)
        settled["storage"] = {"redis_url": await url_of_redis(settings, stack)}
    return settled


def _with(flags: Flags, settled: Flags) -> Flags:
    return {
        section: {**flags.get(section, {}), **settled.get(section, {})}
        for section in flags.keys() | settled.keys()
    }


def _show(supervisor: Supervisor, settings: Settings, stack: AsyncExitStack) -> None:
    """Serve the metrics of all workers together, and of how they fare."""
    try:
        directory = stack.enter_context(TemporaryDirectory(prefix="stepup-"))
    except OSError as error:
        raise ConfigurationError(
            f"metrics: several workers need a temporary directory: {error.strerror}"
        ) from error
    supervisor.environment[METRICS_DIRECTORY] = directory
    registry = CollectorRegistry()
    supervisor.when_ended = metrics_of_workers(registry, Path(directory)).take_over
    registry.register(_HowTheyFare(supervisor))
    serve_metrics(settings, stack, registry)


class _HowTheyFare(Collector):
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


async def keep_workers(supervisor: Supervisor, address: str, restart: asyncio.Event) -> int:
    """Start the workers, and restart them whenever that is wanted; ends only when it cannot."""
    status = await supervisor.start()
    if status is not None:
        return status if status > 0 else 1
    say_address(address)

    async def replace() -> None:
        await restart.wait()
        restart.clear()
        await supervisor.replace_all()

    await run_for_ever(replace, 0, run_seconds=None)
    return 0


async def _until(told: asyncio.Event, work: Coroutine[Any, Any, int]) -> int:
    """Do some work until it is done or we are told to end; its result, or 0."""
    tasks = working, _ = asyncio.create_task(work), asyncio.create_task(told.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return 0 if working.cancelled() else working.result()
