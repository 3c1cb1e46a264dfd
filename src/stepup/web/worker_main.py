"""A worker of the web process: `python -m stepup.web.worker_main`. `workers` starts it."""

import asyncio
import os
import socket
import sys

from stepup.settings import WebSettings
from stepup.system.core_dumps import forbid_core_dumps
from stepup.system.service_manager import ServiceManager
from stepup.telemetry.logs import configure_logging
from stepup.web.serving import serve_until_stopped


def main() -> None:
    """Serve on the socket of the argument, by the settings of standard input."""
    os.umask(0o077)
    forbid_core_dumps()
    settings = WebSettings.model_validate_json(sys.stdin.buffer.read())
    configure_logging(settings.log.level, settings.log.format)
    opened = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(serve_until_stopped(settings, opened, ServiceManager()))


if __name__ == "__main__":
    main()
