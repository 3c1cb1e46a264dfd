"""An HTTP proxy that passes everything on, and keeps what it reads."""

import os
import socket
import threading
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

LOOPBACK = "localhost,127.0.0.1,::1"
VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


class RecordingProxy:
    """Tunnels for CONNECT, and forwards requests for `http://` URLs.

    Attributes:
        address: its URL.
        read: all bytes that clients sent.
    """

    def __init__(self):
        self.address = ""
        self.read = bytearray()

    @property
    def environment(self):
        """The variables by which programs are told to use it."""
        names = (spelling for name in VARIABLES for spelling in (name, name.upper()))
        return dict.fromkeys(names, self.address) | {"no_proxy": "", "NO_PROXY": ""}

    def serve(self, client):
        """Serve one connection."""
        head = b""
        while b"\r\n\r\n" not in head and (some := client.recv(4096)):
            head += some
        self.read += head
        if not head:
            return
        method, url, _ = head.split(b" ", 2)
        parts = urlsplit(f"//{url.decode()}" if method == b"CONNECT" else url.decode())
        with socket.create_connection((parts.hostname, parts.port)) as server:
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)
            answers = threading.Thread(target=self._pass_on, args=(server, client, bytearray()))
            answers.start()
            self._pass_on(client, server, self.read)
            answers.join()

    @staticmethod
    def _pass_on(source, sink, record):
        with suppress(OSError):
            while some := source.recv(4096):
                record += some
                sink.sendall(some)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def use_no_proxy_on_loopback():
    """Let programs for developers work on a machine whose environment names a proxy."""
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = LOOPBACK


@contextmanager
def recording_proxy():
    """A proxy on loopback."""
    proxy = RecordingProxy()

    class Handler(StreamRequestHandler):
        def handle(self):
            with suppress(OSError):
                proxy.serve(self.connection)

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
