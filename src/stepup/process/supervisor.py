"""Keeps worker processes alive: starts them, starts them again, replaces them, ends them.

It knows nothing of what they do. Each is a fresh process: a fork would take along gRPC's locks, and
not its threads. Each has the writing end of a pipe: there it reports every second what it serves,
and the kernel closes the pipe when it ends, however that comes about. One that falls silent hangs.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from random import uniform
from typing import Final, Self, TypeAlias

import structlog

from stepup.process.signals import held_back
from stepup.process.worker_reports import Reports
from stepup.service.upkeep.background import run_for_ever

START_SECONDS: Final = 60.0
"""How long a worker may take until it serves."""
LATE_SECONDS: Final = 10.0
"""How much longer than its calls a worker may take to end, before it is killed."""
SILENT_SECONDS: Final = 10
"""How long nothing may be heard of a worker that has served, before it is killed."""
STEADY_SECONDS: Final = 30.0
"""A worker that has lived this long did not fail at its start."""
_SERVER: Final = ""
"""What health calls the whole server."""
_FIRST_DELAY_SECONDS: Final = 0.2
_LONGEST_DELAY_SECONDS: Final = 30.0

Command: TypeAlias = Callable[[int], Sequence[str]]
"""The command of a worker, given the descriptor that it writes to when it serves."""

_log = structlog.get_logger(__name__)


class Worker:
    """A process that was started, until it has ended."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: "_Pipe") -> None:
        self._process = process
        self._pipe = pipe
        self._is_told_to_end = False

    @classmethod
    async def start(cls, command: Command, environment: Mapping[str, str]) -> Self:
        """Start one.

        Raises:
            OSError: it cannot be started.
        """
        reading, writing = os.pipe()
        try:
            _, pipe = await asyncio.get_running_loop().connect_read_pipe(
                _Pipe, os.fdopen(reading, "rb", buffering=0)
            )
            # Nothing is awaited from here on, so that no process is started and forgotten.
            process = _launch(command(writing), environment, writing)
        finally:
            os.close(writing)
        return cls(process, pipe)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def serving(self) -> frozenset[str]:
        """The health names that it serves; none once it has been told to end."""
        return frozenset() if self._is_told_to_end else self._pipe.reports.serving

    @property
    def serves(self) -> bool:
        """Whether it can decide."""
        return _SERVER in self.serving

    async def comes_up(self) -> bool:
        """Wait until it serves; False if it ends before, or is killed as it takes too long."""
        await asyncio.wait([self._pipe.told], timeout=START_SECONDS)
        if not self._pipe.told.done():
            _log.error("worker_does_not_come_up", pid=self.pid, seconds=START_SECONDS)
            self._process.kill()
        return await asyncio.shield(self._pipe.told)

    async def falls_silent(self) -> None:
        """Wait until it has ended, or is killed as it hangs: the kernel still gives it calls."""
        # Seconds are counted, not compared: if we stood still as well, nothing was to be heard.
        silent = 0
        while silent < SILENT_SECONDS:
            silent = 0 if self._pipe.was_heard() else silent + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._pipe.ended.wait()
                    return
        _log.error("worker_hangs", pid=self.pid, seconds=SILENT_SECONDS)
        self._process.kill()

    async def ended(self) -> int:
        """Wait until it has ended; returns its exit status, a signal as a negative number."""
        await self._pipe.ended.wait()
        return self._process.wait()  # at once: the kernel closes what it had open last

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        self._process.send_signal(number)

    async def end(self, seconds: float) -> None:
        """Tell it to end, and kill it if it has not after some time."""
        self._is_told_to_end = True
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self.ended()
        except TimeoutError:
            _log.error("worker_killed", pid=self.pid, seconds=seconds)
            self._process.kill()
            await self.ended()


def _launch(
    command: Sequence[str], environment: Mapping[str, str], passed: int
) -> subprocess.Popen[bytes]:
    with held_back():
        return subprocess.Popen(  # noqa: S603  # our own program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(passed,),
            start_new_session=True,  # Ctrl-C is for us, who tell it to end
        )


class _Pipe(asyncio.Protocol):
    """What a worker tells."""

    def __init__(self) -> None:
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.reports = Reports()
        self._was_heard = False

    def was_heard(self) -> bool:
        """Whether it has said something since this was last asked."""
        was_heard, self._was_heard = self._was_heard, False
        return was_heard

    def data_received(self, data: bytes) -> None:
        self._was_heard = True
        self.reports.read(data)
        if _SERVER in self.reports.serving:
            self._tell(came_up=True)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.reports = Reports()
        self._tell(came_up=False)
        self.ended.set()

    def _tell(self, *, came_up: bool) -> None:
        if not self.told.done():
            self.told.set_result(came_up)


class Supervisor:
    """A number of workers, each in its place: one that ends by itself is followed by another.

    Args:
        command: how each is started.
        count: how many.
        drain_seconds: how long each may take for its calls when it is told to end.

    `environment` are the variables of workers that are started from now on; `when_ended` is told
    the process id of each that has ended; `failures` are those that ended by themselves.
    """

    def __init__(
        self,
        command: Command,
        count: int,
        drain_seconds: float,
    ) -> None:
        self.environment = dict(os.environ)
        self.when_ended: Callable[[int], object] = _nothing
        self.failures = 0
        self._command = command
        self._count = count
        self._patience = drain_seconds + LATE_SECONDS
        self._workers: set[Worker] = set()
        self._places: list[_Place] = []

    @property
    def serving(self) -> int:
        """How many serve."""
        return sum(worker.serves for worker in self._workers)

    @property
    def serving_names(self) -> frozenset[str]:
        """The health names that one worker at least serves."""
        return frozenset[str]().union(*(worker.serving for worker in self._workers))

    async def start(self) -> int | None:
        """Start all, the first one alone.

        It makes what is made once, such as the schema; and if the configuration is no good, one
        says so.

        Returns:
            None when all serve, or the exit status of the first one, which ended before it did.
        """
        first = await self._start_one()
        if not await first.comes_up():
            return await self._end_of(first)
        places = [self._give_place(first)]
        places += [self._give_place(await self._start_one()) for _ in range(1, self._count)]
        for place in places:
            await place.has_served.wait()
        return None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every worker, those that only come up included."""
        for worker in self._workers:
            worker.send(number)

    async def replace_all(self) -> None:
        """Let others take the places, one after the other.

        Each serves before the old one is told to end. One that does not come up leaves the rest as
        it is.
        """
        for place in list(self._places):
            try:
                worker = await self._start_one()
            except OSError as error:
                _log.error("restart_given_up", problem=error.strerror)
                return
            if not await worker.comes_up():
                status = await self._end_of(worker)
                _log.error("restart_given_up", pid=worker.pid, status=status)
                return
            self._give_place(worker)
            self._places.remove(place)
            await place.close()
            await self._end(place.worker)
        _log.info("workers_restarted", workers=len(self._places))

    async def stop(self) -> None:
        """Tell all workers to end, and wait until they have, within limits."""
        for place in self._places:
            await place.close()
        await asyncio.gather(*(self._end(worker) for worker in self._workers))

    def _give_place(self, worker: Worker) -> "_Place":
        place = _Place(worker, self._next)
        self._places.append(place)
        return place

    async def _next(self, worker: Worker, failures: int) -> Worker:
        """The worker that follows one that has ended by itself, after some time."""
        status = await self._end_of(worker)
        self.failures += 1
        _log.error("worker_ended", pid=worker.pid, status=status)
        while True:
            await asyncio.sleep(back_off(failures))
            try:
                return await self._start_one()
            except Exception as error:  # noqa: BLE001  # its place must not stay empty
                _log.error("worker_not_started", problem=str(error) or type(error).__name__)
                failures += 1

    async def _start_one(self) -> Worker:
        worker = await Worker.start(self._command, self.environment)
        self._workers.add(worker)
        _log.info("worker_started", pid=worker.pid)
        return worker

    async def _end(self, worker: Worker) -> None:
        await worker.end(self._patience)
        await self._end_of(worker)

    async def _end_of(self, worker: Worker) -> int:
        status = await worker.ended()
        self._workers.discard(worker)
        try:
            self.when_ended(worker.pid)
        except Exception as error:  # noqa: BLE001  # such as metrics' files that somebody removed
            _log.error("worker_not_cleared_away", pid=worker.pid, exc_info=error)
        return status


class _Place:
    """Where one worker after the other serves, until it is closed."""

    def __init__(self, worker: Worker, follow: Callable[[Worker, int], Awaitable[Worker]]) -> None:
        self.worker = worker
        self.has_served = asyncio.Event()
        self._follow = follow
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """No further worker takes it; the last one goes on."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        failures = 0

        async def fill() -> None:
            nonlocal failures
            began = clock()
            if await self.worker.comes_up():
                self.has_served.set()
                await self.worker.falls_silent()
            await self.worker.ended()
            was_steady = clock() - began >= STEADY_SECONDS
            failures = 1 if was_steady else failures + 1
            self.worker = await self._follow(self.worker, failures)

        await run_for_ever(fill, 0, run_seconds=None)


def _nothing(_pid: int) -> None:
    pass


def back_off(failures: int) -> float:
    """How long a place stays empty after so many failures in a row, in seconds; half is chance.

    Chance keeps workers that fail together from coming back together.
    """
    longest = min(_FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 32), _LONGEST_DELAY_SECONDS)
    return uniform(longest / 2, longest)  # noqa: S311  # nothing is secret about it
