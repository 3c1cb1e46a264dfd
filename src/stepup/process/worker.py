"""A worker as its supervisor sees it: a process, and a pipe by which the process reports.

A worker is a fresh process: a fork would copy gRPC's locks without the threads that hold them. It
writes a report to the pipe every second (`worker_reports`). The kernel closes the pipe when the
worker ends, however it ends. A worker that stops reporting hangs.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Self, TypeAlias

import structlog

from stepup.process.signals import reload_signals_blocked
from stepup.process.worker_reports import SERVER, Reports

START_SECONDS: Final = 60.0
"""How long a worker may take until it serves."""
SILENT_SECONDS: Final = 10
"""How long a worker that has served may report nothing."""

WorkerCommand: TypeAlias = Callable[[int], Sequence[str]]
"""Returns the command of a worker that reports to a descriptor."""

_log = structlog.get_logger(__name__)


class Worker:
    """A worker process, from its start to its end."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: "_ReportPipe") -> None:
        self._process = process
        self._pipe = pipe
        self._is_terminating = False

    @classmethod
    async def start(cls, command: WorkerCommand, environment: Mapping[str, str]) -> Self:
        """Start a worker.

        Raises:
            OSError: the process cannot be started.
        """
        reading, writing = os.pipe()
        try:
            _, pipe = await asyncio.get_running_loop().connect_read_pipe(
                _ReportPipe, os.fdopen(reading, "rb", buffering=0)
            )
            # No await from here on: a cancellation would lose a process that was started.
            process = _launch(command(writing), environment, writing)
        finally:
            os.close(writing)
        return cls(process, pipe)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def serving_names(self) -> frozenset[str]:
        """The health names that the worker serves; none after `terminate`."""
        return frozenset() if self._is_terminating else self._pipe.reports.serving

    @property
    def is_serving(self) -> bool:
        """Whether the worker can make decisions."""
        return SERVER in self.serving_names

    async def serves_in_time(self) -> bool:
        """Wait until the worker serves or has ended; kill a worker that takes too long."""
        await asyncio.wait([self._pipe.has_served], timeout=START_SECONDS)
        if not self._pipe.has_served.done():
            _log.error("worker_does_not_come_up", pid=self.pid, seconds=START_SECONDS)
            self._process.kill()
        return await asyncio.shield(self._pipe.has_served)

    async def kill_when_silent(self) -> None:
        """Wait until the worker ends; kill a worker that hangs, as the kernel gives it calls."""
        # Count seconds instead of comparing times: a process that stands still reads no report.
        silent, reads = 0, self._pipe.reads
        while silent < SILENT_SECONDS:
            silent, reads = silent + 1 if reads == self._pipe.reads else 0, self._pipe.reads
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._pipe.ended.wait()
                    return
        _log.error("worker_hangs", pid=self.pid, seconds=SILENT_SECONDS)
        self._process.kill()

    async def wait(self) -> int:
        """Wait for the end; returns the exit status, a signal as a negative number."""
        await self._pipe.ended.wait()
        return self._process.wait()  # at once: the kernel closes the pipe last

    def send_signal(self, number: signal.Signals) -> None:
        """Send the worker a signal; does nothing when the worker has ended."""
        self._process.send_signal(number)

    async def terminate(self, seconds: float) -> None:
        """Send SIGTERM and wait for the end; kill the worker if it takes longer."""
        self._is_terminating = True
        self.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            _log.error("worker_killed", pid=self.pid, seconds=seconds)
            self._process.kill()
            await self.wait()


def _launch(
    command: Sequence[str], environment: Mapping[str, str], report_to: int
) -> subprocess.Popen[bytes]:
    with reload_signals_blocked():
        return subprocess.Popen(  # noqa: S603  # our own program
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            pass_fds=(report_to,),
            start_new_session=True,  # Ctrl-C is for the supervisor, which terminates the workers
        )


class _ReportPipe(asyncio.Protocol):
    """The reading end of a worker's pipe."""

    def __init__(self) -> None:
        self.has_served: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self.reports = Reports()
        self.reads = 0

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        self.reports.read(data)
        if SERVER in self.reports.serving:
            self._settle_has_served(True)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.reports = Reports()
        self._settle_has_served(False)
        self.ended.set()

    def _settle_has_served(self, served: bool) -> None:
        if not self.has_served.done():
            self.has_served.set_result(served)
