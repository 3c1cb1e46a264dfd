"""Keeps a number of workers running: starts, replaces and ends them.

The supervisor does not know what the workers do. See `Worker`.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from random import uniform
from typing import Final

import structlog

from stepup.process.worker import Worker, WorkerCommand
from stepup.service.upkeep.background import run_for_ever

LATE_SECONDS: Final = 10.0
"""How much longer than its calls a worker may take to end."""
STEADY_SECONDS: Final = 30.0
"""A worker that has lived this long did not fail at its start."""
_FIRST_DELAY_SECONDS: Final = 0.2
_LONGEST_DELAY_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


class Supervisor:
    """A number of workers, each in a slot. Another worker takes the slot of a worker that fails.

    Args:
        command: of each worker.
        count: how many workers to run.
        drain_seconds: how long a worker may take for its calls when it is terminated.

    Attributes:
        environment: the variables of workers that start from now on.
        on_exit: is called with the process id of each worker that has ended.
        failures: how many workers have ended without being terminated.
    """

    def __init__(self, command: WorkerCommand, count: int, drain_seconds: float) -> None:
        self.environment = dict(os.environ)
        self.on_exit: Callable[[int], object] = lambda _pid: None
        self.failures = 0
        self._command = command
        self._count = count
        self._terminate_seconds = drain_seconds + LATE_SECONDS
        self._workers: set[Worker] = set()
        self._slots: list[_Slot] = []

    @property
    def serving(self) -> int:
        """How many workers serve."""
        return sum(worker.is_serving for worker in self._workers)

    @property
    def serving_names(self) -> frozenset[str]:
        """The health names that at least one worker serves."""
        return frozenset[str]().union(*(worker.serving_names for worker in self._workers))

    async def start(self) -> int | None:
        """Start all workers, and wait until they serve.

        The first worker starts alone: it makes what is made once, such as the schema, and it alone
        reports a configuration that cannot be used.

        Returns:
            None, or the exit status of the first worker if it ended before it served.
        """
        first = await self._start_worker()
        if not await first.serves_in_time():
            return await self._reap(first)
        slots = [self._add_slot(first)]
        slots += [self._add_slot(await self._start_worker()) for _ in range(1, self._count)]
        for slot in slots:
            await slot.has_served.wait()
        return None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to every worker, also to those that do not serve yet."""
        for worker in self._workers:
            worker.send_signal(number)

    async def replace_all(self) -> None:
        """Replace every worker, one after the other.

        A new worker serves before the old worker is terminated. If a new worker does not come up,
        the remaining old workers stay.
        """
        for slot in list(self._slots):
            try:
                worker = await self._start_worker()
            except OSError as error:
                _log.error("restart_given_up", problem=error.strerror)
                return
            if not await worker.serves_in_time():
                status = await self._reap(worker)
                _log.error("restart_given_up", pid=worker.pid, status=status)
                return
            self._add_slot(worker)
            self._slots.remove(slot)
            await slot.close()
            await self._terminate(slot.worker)
        _log.info("workers_restarted", workers=len(self._slots))

    async def terminate(self) -> None:
        """Terminate all workers, and wait until they have ended."""
        for slot in self._slots:
            await slot.close()
        await asyncio.gather(*(self._terminate(worker) for worker in self._workers))

    def _add_slot(self, worker: Worker) -> "_Slot":
        slot = _Slot(worker, self._replace_failed)
        self._slots.append(slot)
        return slot

    async def _replace_failed(self, worker: Worker, failures: int) -> Worker:
        """Start a worker in place of a worker that has failed, after some time."""
        status = await self._reap(worker)
        self.failures += 1
        _log.error("worker_ended", pid=worker.pid, status=status)
        while True:
            await asyncio.sleep(backoff_seconds(failures))
            try:
                return await self._start_worker()
            except Exception as error:  # noqa: BLE001  # the slot must not stay empty
                _log.error("worker_not_started", problem=str(error) or type(error).__name__)
                failures += 1

    async def _start_worker(self) -> Worker:
        worker = await Worker.start(self._command, self.environment)
        self._workers.add(worker)
        _log.info("worker_started", pid=worker.pid)
        return worker

    async def _terminate(self, worker: Worker) -> None:
        await worker.terminate(self._terminate_seconds)
        await self._reap(worker)

    async def _reap(self, worker: Worker) -> int:
        """Wait for the end of a worker, and forget it; returns the exit status."""
        status = await worker.wait()
        self._workers.discard(worker)
        try:
            self.on_exit(worker.pid)
        except Exception as error:  # noqa: BLE001  # such as: somebody removed the metrics' files
            _log.error("worker_not_cleared_away", pid=worker.pid, exc_info=error)
        return status


class _Slot:
    """Runs one worker at a time, until it is closed; replaces those that fail."""

    def __init__(self, worker: Worker, replace: Callable[[Worker, int], Awaitable[Worker]]) -> None:
        self.worker = worker
        self.has_served = asyncio.Event()
        self._replace = replace
        self._task = asyncio.create_task(self._keep_filled())

    async def close(self) -> None:
        """Start no further worker; the present worker keeps running."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _keep_filled(self) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0

        async def replace_when_failed() -> None:
            nonlocal failures
            began = clock()
            if await self.worker.serves_in_time():
                self.has_served.set()
                await self.worker.kill_when_silent()
            await self.worker.wait()
            was_steady = clock() - began >= STEADY_SECONDS
            failures = 1 if was_steady else failures + 1
            self.worker = await self._replace(self.worker, failures)

        await run_for_ever(replace_when_failed, 0, run_seconds=None)


def backoff_seconds(failures: int) -> float:
    """How long a slot stays empty after so many failures in a row.

    Half of the time is random, so that workers that fail together do not return together.
    """
    longest = min(_FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 32), _LONGEST_DELAY_SECONDS)
    return uniform(longest / 2, longest)  # noqa: S311  # no secret
