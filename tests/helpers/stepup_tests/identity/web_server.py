"""A web server that answers as a test says."""

import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stepup_tests.identity.tokens import key, public

DOCUMENT = public(key("k1"))


class WebServer:
    """Answers on loopback as a test says; remembers what was asked."""

    def __init__(self, credential=None):
        self.status, self.headers, self.body = 200, {}, DOCUMENT
        self.requests = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                web.requests.append((self.path, self.headers))
                web.may_answer.wait()
                self.send_response(web.status)
                for name, value in web.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(web.body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that hangs up, on purpose
        if credential is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*credential)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "https" if credential else "http"
        self.url = f"{scheme}://localhost:{self.server.server_port}/keys"


@contextmanager
def served(web):
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        web.may_answer.set()
        web.server.shutdown()
        thread.join()
        web.server.server_close()
