"""A fake of the HTTP API of Vault's transit engine, after its documentation: encrypt and decrypt.

https://developer.hashicorp.com/vault/api-docs/secret/transit and /vault/api-docs (error shapes).
No Vault has been asked whether it is right.
"""

import json
import threading
from base64 import b64decode, b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "hvs.of-the-tests"
PREFIX = "vault:v1:"


class FakeVault:
    """What a Vault knows, and how it is feeling."""

    def __init__(self):
        self.address = ""
        self.mount = "transit"
        self.keys = {"stepup": AESGCM(bytes(range(32)))}
        self.sealed = False
        self.silent = False
        self.drips = False
        self.status = 200
        self.answer = None
        self.requests = []
        self.go_on = threading.Event()

    def respond(self, path, token, body):
        """Status and JSON of the answer to a POST."""
        self.requests.append(path)
        if self.silent:
            self.go_on.wait(30)
        if self.answer is not None:
            return self.status, self.answer
        if self.sealed:
            return 503, {"errors": ["Vault is sealed"]}
        if token != TOKEN:
            return 403, {"errors": ["permission denied"]}
        _, version, mount, action, name = path.split("/")
        if (version, mount) != ("v1", self.mount):
            return 404, {"errors": [f'no handler for route "{mount}/{action}/{name}"']}
        key = self.keys.get(name)
        if key is None:
            return 400, {"errors": ["encryption key not found"]}
        return {"encrypt": _encrypt, "decrypt": _decrypt}[action](key, body)


def _encrypt(key, body):
    nonce = bytes(12)  # one key is wrapped once in a test
    sealed = nonce + key.encrypt(nonce, b64decode(body["plaintext"], validate=True), None)
    return 200, _response({"ciphertext": PREFIX + b64encode(sealed).decode(), "key_version": 1})


def _decrypt(key, body):
    if not body["ciphertext"].startswith(PREFIX):
        return 400, {"errors": ["invalid ciphertext: no prefix"]}
    try:
        sealed = b64decode(body["ciphertext"].removeprefix(PREFIX), validate=True)
        plaintext = key.decrypt(sealed[:12], sealed[12:], None)
    except ValueError:
        return 400, {"errors": ["invalid ciphertext: could not decode base64"]}
    except InvalidTag:
        return 400, {"errors": ["cipher: message authentication failed"]}
    return 200, _response({"plaintext": b64encode(plaintext).decode()})


def _response(data):
    return {
        "request_id": "ab00ba0f-9e45-0aca-e3c1-7765fd83fc3c",
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": data,
        "wrap_info": None,
        "warnings": None,
        "auth": None,
    }


@contextmanager
def running():
    """A fake Vault on loopback."""
    vault = FakeVault()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            status, answer = vault.respond(self.path, self.headers["X-Vault-Token"], body)
            octets = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(octets)))
            if vault.drips:
                self.drip()
            self.end_headers()
            self.wfile.write(octets)

        def drip(self):
            """Go on with headers for as long as the client takes them, and for some seconds."""
            self.close_connection = True
            self.flush_headers()
            self.wfile.write(b"X-Drip: ")
            for _ in range(300):
                if vault.go_on.wait(0.01):
                    break
                self.wfile.write(b"a")
            self.wfile.write(b"\r\n")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    vault.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield vault
    finally:
        vault.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
