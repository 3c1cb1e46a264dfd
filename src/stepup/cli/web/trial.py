"""The web process of a trial, beside a server without credentials."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog

from stepup.cli.web.command import MODULES
from stepup.settings import Settings
from stepup.system.children import ending_with_this_process
from stepup.system.distribution import are_installed, missing_extra

LISTEN: Final = "127.0.0.1:8080"
ORIGIN: Final = f"http://{LISTEN}"
_END_SECONDS: Final = 15

_log = structlog.get_logger(__name__)


@contextmanager
def trial_web_process(settings: Settings) -> Iterator[None]:
    """Run the web process of a trial while the block runs.

    A server on a free port, on a unix socket or with credentials has none. If the web process
    cannot start, it says so on standard error, and the server continues.
    """
    server = settings.server
    if not server.insecure or server.socket is not None or server.port == 0:
        yield
        return
    if not are_installed(*MODULES):
        _log.info("portal_not_started", reason=f"the web process {missing_extra('web')}")
        yield
        return
    command = [sys.executable, "-m", "stepup", "web", "--listen", LISTEN, "--core", server.listen]
    command += ["--log-level", settings.log.level, "--log-format", settings.log.format]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("STEPUP_")
    }
    _log.info("portal_starts", address=ORIGIN)
    child = subprocess.Popen(  # noqa: S603  # our own command
        ending_with_this_process(command, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the server's one line there is for programs
        env=environment,
    )
    try:
        yield
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_END_SECONDS)
