"""The HTTP server of the metrics: a bounded number of threads, each for a bounded time (S18).

The server of prometheus_client starts a thread for each connection, and a silent connection keeps
its thread for ever.
"""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from io import StringIO
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder

from stepup.system.open_connections import OpenConnections
from stepup.telemetry.limited_lines import LimitedLines

MAX_CONNECTIONS: Final = 16
"""The largest number of open connections; each has a thread."""
SILENCE_SECONDS: Final = 5.0
"""How long a client may send nothing, or read nothing of its answer."""
CONNECTION_SECONDS: Final = 15.0
"""How long a connection may last: Prometheus gives a scrape ten seconds by default."""
_THREAD_SECONDS: Final = 1.0
"""How long a new connection waits for the thread of the connection that it displaces."""

_log = structlog.get_logger(__name__)


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a registry's metrics over HTTP on any path.

    Beyond MAX_CONNECTIONS the oldest connection of the busiest host is closed.

    Raises:
        OSError: the address cannot be listened on.
    """

    daemon_threads = True
    request_queue_size = 128  # connections that the kernel holds until the server accepts them

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        self.address_family = family
        self._connections: OpenConnections[socket.socket] = OpenConnections(MAX_CONNECTIONS)
        self._free_threads = BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((str(address[0]), port), _Handler)
        self._lines = LimitedLines()
        self._answer_scrape = make_wsgi_app(registry)
        self.set_app(self._answer)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Wait for a free thread, and answer a connection on it."""
        for closing in self._connections.add(request, client_address[0], time.monotonic()):
            _interrupt(closing)
        if not self._free_threads.acquire(timeout=_THREAD_SECONDS):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # such as: no thread can be started
            self._free_threads.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection, and free its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free_threads.release()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, and remove it from the open connections."""
        self._connections.remove(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Interrupt the connections that have lasted too long; called twice a second."""
        for late in self._connections.opened_before(time.monotonic() - CONNECTION_SECONDS):
            _interrupt(late)

    def handle_error(self, *_: object) -> None:
        """Log a failed request, at most once a minute: anybody can send requests that fail (S18).

        The method of the base class prints the error, and a failure to print ends the listener.
        """
        if failures := self._lines.count("failed request"):
            _log.warning("metrics_request_failed", failures=failures, exc_info=True)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            choose_encoder(environ.get("HTTP_ACCEPT", ""))
        except Exception:  # noqa: BLE001  # the library raises many errors for a bad header
            return _refuse(start, "400 Bad Request")
        try:
            answer: Iterable[bytes] = self._answer_scrape(environ, start)
        except Exception:  # noqa: BLE001  # a collector may raise anything
            self.handle_error()
            return _refuse(start, "500 Internal Server Error")
        return answer


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(SILENCE_SECONDS)

    def handle(self) -> None:
        with suppress(TimeoutError, ConnectionError):  # the client is silent, or has gone
            super().handle()

    def log_message(self, *_: object) -> None:
        """Log no request."""

    def get_stderr(self) -> Any:
        """Return a stream that drops the traceback of a failed request."""
        return StringIO()


def _refuse(start: StartResponse, status: str) -> Iterable[bytes]:
    start(status, [])
    return [b""]


def _interrupt(connection: socket.socket) -> None:
    """Shut a connection down, so that its thread stops waiting and closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
