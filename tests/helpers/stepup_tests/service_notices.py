"""A service manager's socket: what a process reports to it (sd_notify(3))."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

from stepup_tests.places import SHORT


class Notices:
    """Receives notices at `path`, or at an abstract address that begins with @."""

    def __init__(self, path):
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(60)
        self._socket.bind(self.path.replace("@", "\0") if self.path[0] == "@" else self.path)

    def receive(self):
        """The lines of the next notice."""
        return self._socket.recv(4096).decode().split("\n")

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def notices(request):
    with tempfile.TemporaryDirectory(dir=SHORT) as directory:
        path = Path(directory, "notify")
        opened = Notices(path if request.param == "path" else f"@stepup-test-{os.getpid()}")
        yield opened
        opened.close()
