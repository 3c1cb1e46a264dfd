"""The program of a worker: `stepup worker ORDER`.

It imports none of the commands, which a worker does not need.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from stepup.domain.errors import StoreUnavailableError
from stepup.process.serving import serve_until_stopped
from stepup.process.worker_reports import report
from stepup.service.policy.snapshots import POLL_SECONDS
from stepup.service.upkeep.background import run_for_ever
from stepup.settings import ConfigurationError, load
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import configure_logging
from stepup.wiring.running_server import RunningServer

Flags: TypeAlias = dict[str, dict[str, Any]]
"""The flags of the command line, by section and field."""


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker gets from its supervisor.

    Attributes:
        config_file: the configuration file, or None.
        flags: they win over the file and the environment.
        report_to: the descriptor that the worker writes its reports to (`worker_reports`).
    """

    config_file: Path | None
    flags: Flags
    report_to: int

    def encode(self) -> str:
        """Encode the order in JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def decode(cls, text: str) -> "WorkerOrder":
        """Decode an order from JSON."""
        fields = json.loads(text)
        file = fields["config_file"]
        return cls(Path(file) if file else None, fields["flags"], fields["report_to"])


def main(text: str) -> None:
    """Serve by an encoded `WorkerOrder`, as one of several workers, until SIGTERM or SIGINT.

    Raises:
        SystemExit: the worker cannot serve; standard error has the reason.
    """
    order = WorkerOrder.decode(text)
    os.set_inheritable(order.report_to, False)
    reload = partial(load, order.config_file, **order.flags)
    try:
        settings = reload()
        configure_logging(settings.log.level, settings.log.format)
        reporting = partial(report_to_supervisor, order.report_to)
        asyncio.run(serve_until_stopped(settings, reload, reporting, ServiceManager()))
    except (ConfigurationError, StoreUnavailableError) as error:
        problem = error.fault if isinstance(error, StoreUnavailableError) else error
        with suppress(OSError):
            print(f"stepup: {problem}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from error


async def report_to_supervisor(descriptor: int, server: RunningServer) -> None:
    """Report every second which health names the server serves; never returns."""
    os.set_blocking(descriptor, False)

    async def write_report() -> None:
        with suppress(BlockingIOError):  # the supervisor has not read for hours
            os.write(descriptor, report(server.serving()))

    with suppress(OSError):
        await write_report()
    await run_for_ever(write_report, POLL_SECONDS)
