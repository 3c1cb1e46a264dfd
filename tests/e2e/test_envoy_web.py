"""deploy/envoy/web.yaml in a real Envoy, before a program that shows what it got."""

import http.client
import json
import ssl
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from threading import Thread

import pytest
from stepup_tests.e2e.envoy import before_web
from stepup_tests.e2e.guarded import SERVERS
from stepup_tests.e2e.processes import eventually
from stepup_tests.e2e.topologies import EMBEDDED

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.topologies(EMBEDDED, reason="it has no server"),
]


@contextmanager
def echo():
    """Serve a program that answers with what it got of a request; yields its address."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self):  # http.server's name
            body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
            got = {"path": self.path, "headers": dict(self.headers.items()), "body": body}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(got).encode())

        def do_GET(self):  # http.server's name
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_s21_envoy_logs_no_path_and_names_the_browser(tmp_path):
    with echo() as web, before_web(tmp_path, web) as front, ExitStack() as stack:
        host, _, port = front.address.rpartition(":")
        context = ssl.create_default_context(cadata=SERVERS.chain.decode())
        context.check_hostname = False
        connection = http.client.HTTPSConnection(host, int(port), context=context)
        stack.callback(connection.close)
        claimed = {"X-Forwarded-For": "192.0.2.66", "Host": "mfa.example"}
        connection.request("POST", "/open/the-token?more=secret", b"csrf=secret", claimed)
        got = json.loads(connection.getresponse().read())
        assert (got["path"], got["body"]) == ("/open/the-token?more=secret", "csrf=secret")
        headers = {name.lower(): value for name, value in got["headers"].items()}
        assert headers["x-forwarded-for"] != claimed["X-Forwarded-For"]
        assert ip_address(headers["x-forwarded-for"])
        assert headers["host"] == "mfa.example"
        connection.request("POST", "/v/%2e%2e%2fopen", b"", {"Host": "mfa.example"})
        assert connection.getresponse().status == 400
        log = eventually((tmp_path / "envoy.log").read_text, "Envoy writes its log")
    assert '"status":200' in log
    assert not [word for word in ("open", "the-token", "secret", "csrf") if word in log]
