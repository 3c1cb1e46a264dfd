"""The web process of a trial, beside a server without credentials."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog

from stepup.cli.web.command import demand_extra
from stepup.settings import ConfigurationError, Settings
from stepup.system.children import ending_with_this_process

LISTEN: Final = "127.0.0.1:8080"
ORIGIN: Final = f"http://{LISTEN}"
_END_SECONDS: Final = 15

_log = structlog.get_logger(__name__)


def flags_of_trial(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings that a trial with pages has, beside those that were given; empty for others.

    A trial has pages if the server takes callers without credentials on a fixed port of this
    machine, and no portal is configured.
    """
    server = settings.server
    if not server.insecure or settings.portal or server.socket or not server.port:
        return {}
    if not server.is_local:
        return {}  # the web process calls loopback only, when it has no credentials
    try:
        demand_extra()
    except ConfigurationError as error:
        _log.info("portal_not_started", reason=str(error))
        return {}
    return {"portal": {"public_url": ORIGIN}}


@contextmanager
def trial_web_process(settings: Settings) -> Iterator[None]:
    """Run the web process of a trial while the block runs.

    If the web process cannot start, it says so on standard error, and the server continues.
    """
    command = [sys.executable, "-m", "stepup", "web", "--listen", LISTEN]
    command += ["--core", settings.server.listen]
    command += ["--log-level", settings.log.level, "--log-format", settings.log.format]
    # The web process chooses for itself what grpcio's core logs.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STEPUP_") and name != "GRPC_TRACE"
    }
    _log.info("portal_starts", address=ORIGIN)
    child = subprocess.Popen(  # noqa: S603  # our own command
        ending_with_this_process(command, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server's one line there is for programs
        stderr=sys.stderr,  # while the server runs, descriptor 2 is not standard error
        env=environment,
    )
    try:
        yield
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_END_SECONDS)
