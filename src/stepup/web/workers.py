"""Several processes that answer browsers on one socket: the first process starts them again."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from stepup.settings import WebSettings
from stepup.system.children import ending_with_this_process
from stepup.system.service_manager import ServiceManager

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0

_log = structlog.get_logger(__name__)


async def run_workers(
    settings: WebSettings, opened: socket.socket, metrics: Path | None, manager: ServiceManager
) -> None:
    """Run the workers until SIGTERM or SIGINT; start each one again that ends before.

    Args:
        settings: those of the workers.
        opened: the socket that they share.
        metrics: where they write their metrics; None if nobody reads them.
        manager: gets notices that the workers were started, and that they stop.
    """
    stop = asyncio.Event()

    def begin_to_stop() -> None:
        manager.report_stopping()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, begin_to_stop)
    environment = dict(os.environ)
    if metrics is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)

    async def keep_one() -> None:
        pause = 0.0
        while not stop.is_set():
            began = time.monotonic()
            worker = await _start(settings, opened, environment)
            ended, stopping = asyncio.create_task(worker.wait()), asyncio.create_task(stop.wait())
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                if worker.returncode is None:
                    worker.terminate()
                await ended
                return
            _log.error("web_worker_ended", status=worker.returncode)
            pause = pause_before_next(pause, time.monotonic() - began)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    address = settings.address(opened.getsockname()[1])
    manager.report_ready(f"{settings.workers} workers on {address}")
    await asyncio.gather(*(keep_one() for _ in range(settings.workers)))


def pause_before_next(pause: float, lived: float) -> float:
    """How long no worker takes the place of one that ended, in seconds.

    A worker that cannot run ends at once, with a stack trace in the log. So the pause grows.

    Args:
        pause: the pause before the worker that ended; 0 before the first one.
        lived: how long this worker lived, in seconds.
    """
    if lived >= _LONGEST_PAUSE_SECONDS or not pause:
        return _FIRST_PAUSE_SECONDS
    return min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _start(
    settings: WebSettings, opened: socket.socket, environment: dict[str, str]
) -> Process:
    command = [sys.executable, "-m", "stepup.web.worker_main", str(opened.fileno())]
    worker = await asyncio.create_subprocess_exec(
        *ending_with_this_process(command, signal.SIGTERM),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=[opened.fileno()],
        env=environment,
    )
    assert worker.stdin is not None  # noqa: S101  # for mypy: it is a pipe
    worker.stdin.write(settings.model_dump_json().encode())
    worker.stdin.close()
    return worker
