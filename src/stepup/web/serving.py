"""One process that answers browsers, until SIGTERM or SIGINT."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from stepup.settings import ConfigurationError, WebSettings
from stepup.system.file_watch import FileWatch
from stepup.system.service_manager import ServiceManager
from stepup.web.app import Portal
from stepup.web.core import Core
from stepup.web.rendering import templates
from stepup.web.site import Site
from stepup.web.static import StaticFiles

_DRAIN_SECONDS: Final = 10
_SILENCE_SECONDS: Final = 15
_MAX_CONNECTIONS: Final = 1_000
_MAX_HEAD_BYTES: Final = 32_768
_RENEWAL_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


def listening(settings: WebSettings) -> socket.socket:
    """Return the socket that browsers connect to.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        opened = socket.socket(family, kind)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(1024)
    except OSError as error:
        raise ConfigurationError(f"listen: {settings.listen}: {error.strerror}") from error
    return opened


async def serve_until_stopped(
    settings: WebSettings, opened: socket.socket, manager: ServiceManager
) -> None:
    """Answer browsers; at SIGTERM or SIGINT finish the requests in flight.

    Args:
        settings: those of the start.
        opened: the socket that browsers connect to.
        manager: gets notices that the process answers, and that it stops.

    Raises:
        ConfigurationError: the certificate, or the credentials for the core, cannot be used.
    """
    core = Core(settings.core)
    files = StaticFiles(settings.accent_color)
    site = Site(
        settings.origin(opened.getsockname()[1]), settings.title, templates(), files.addresses
    )
    if not site.is_secure:
        _log.warning(
            "cookies_are_not_secure",
            explanation="without TLS, only a trial on this machine may use these pages",
        )
    server = _Server(configuration(settings, Portal(site, files, core.client, core.serves)))

    def stop() -> None:
        manager.report_stopping()
        server.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    renewing = asyncio.create_task(_renew_certificate(settings, server.config))
    # The socket listens already: connections wait until the server takes them.
    manager.report_ready(f"answering on {settings.address(opened.getsockname()[1])}")
    try:
        await server.serve([opened])
    finally:
        renewing.cancel()
        await core.client.close()


class _Server(uvicorn.Server):
    """A server whose signals are handled outside: uvicorn would end the process by the signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signal here: the process has its own handlers."""
        yield

    def stop(self) -> None:
        """End the server when the requests in flight have finished or their time is over."""
        self.should_exit = True


class _Connection(H11Protocol):
    """A connection that ends if a request takes long to begin: uvicorn ends only silent ones.

    Otherwise, one machine could keep all connections by a byte now and then.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def _await_request(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(_SILENCE_SECONDS, self._end_without_request)

    def _end_without_request(self) -> None:
        # Also while the rest of a form arrives whose answer is sent already.
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's type leaves None out
        if cycle is None or cycle.response_complete:
            self.transport.close()


def configuration(settings: WebSettings, portal: Portal) -> uvicorn.Config:
    """Return how uvicorn serves the portal.

    Raises:
        ConfigurationError: the certificate cannot be used.
    """
    tls = settings.tls
    config = uvicorn.Config(
        portal.app,
        http=_Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        # uvicorn's own lines have the path, which may be that of a link (S21). Its warnings are of
        # requests that anybody can send in any number (S18).
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=_SILENCE_SECONDS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(f"tls: the files cannot be used: {error}") from error
    return config


async def _renew_certificate(settings: WebSettings, config: uvicorn.Config) -> None:
    """Take new files for new connections. While the files do not fit, the old ones stay in use."""
    if settings.tls is None or config.ssl is None:
        return
    watch = FileWatch(settings.tls.certificate, settings.tls.key)
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        try:
            if watch.look():
                config.ssl.load_cert_chain(settings.tls.certificate, settings.tls.key)
        # After any failure the next second tries again; also if what failed was cancelled.
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _log.warning("certificate_not_renewed", problem=type(error).__name__)


def announce(address: str) -> None:
    """Write the one line on standard output, for programs that start the web process on port 0."""
    with suppress(OSError):
        print(f"stepup web is listening on {address}", flush=True)  # noqa: T201  # for programs
