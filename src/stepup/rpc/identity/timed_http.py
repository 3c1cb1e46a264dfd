"""Handlers for `urllib.request` whose whole answer must arrive by a deadline, without redirects.

The timeout of a socket counts for each read: a server that sends a byte now and then never meets
it.
"""

import http.client
import io
import socket
import ssl
import time
import urllib.request
from functools import partial
from typing import Any


def opener_until(
    deadline: float, context: ssl.SSLContext, *, uses_proxies: bool
) -> urllib.request.OpenerDirector:
    """Make an opener for one request.

    Args:
        deadline: in seconds of `time.monotonic`. A read after it raises TimeoutError.
        context: for https.
        uses_proxies: whether the proxies of the environment are used.
    """
    handlers = [_HttpHandler(deadline), _HttpsHandler(deadline, context), _NoRedirects()]
    if not uses_proxies:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes an HTTPError of a redirect, which would carry a bearer token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection = partial(_connection, http.client.HTTPConnection, self._deadline)
        return self.do_open(connection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float, context: ssl.SSLContext) -> None:
        super().__init__()
        self._deadline = deadline
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection = partial(_connection, http.client.HTTPSConnection, self._deadline)
        return self.do_open(connection, req, context=self._tls)


def _connection(
    kind: type[http.client.HTTPConnection], deadline: float, host: str, **given: Any
) -> http.client.HTTPConnection:
    connection = kind(host, **given)
    # The connection also reads a proxy's answer to CONNECT with this class.
    connection.response_class = partial(_Response, deadline)  # type: ignore[assignment]
    return connection


class _Response(http.client.HTTPResponse):
    """An answer whose status, headers and body must arrive by the deadline."""

    def __init__(self, deadline: float, sock: socket.socket, *args: Any, **given: Any) -> None:
        super().__init__(sock, *args, **given)
        self.fp = io.BufferedReader(_SocketReader(self.fp.detach(), sock, deadline))


class _SocketReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
