"""Sockets that listen no more, while the connections that they had go on."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stepup.rpc.server.listeners import end_listening


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def port_of(made):
    return made.getsockname()[1]


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_nobody_connects_any_more_and_who_has_goes_on(listener):
    with connect(port_of(listener)) as client, listener.accept()[0] as accepted:
        end_listening(port_of(listener))
        with pytest.raises(ConnectionRefusedError):
            connect(port_of(listener))
        accepted.sendall(b"still here")
        assert client.recv(64) == b"still here"


THEIRS = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=True) as theirs:
    print("listens", flush=True)
    while True:
        theirs.accept()[0].sendall(b"theirs")
"""


def test_connections_go_to_another_process_that_listens_on_the_port():
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=True) as ours,
        subprocess.Popen(
            [sys.executable, "-S", "-c", THEIRS, str(port_of(ours))], stdout=subprocess.PIPE
        ) as other,
    ):
        try:
            assert other.stdout.readline()
            end_listening(port_of(ours))
            for _ in range(20):
                with connect(port_of(ours)) as client:
                    assert client.recv(64) == b"theirs"
        finally:
            other.kill()


def test_other_ports_are_left_alone(listener):
    with socket.create_server(("127.0.0.1", 0)) as other:
        end_listening(port_of(listener))
        connect(port_of(other)).close()


def test_no_descriptor_is_left(listener):
    before = set(Path("/proc/self/fd").iterdir())
    end_listening(port_of(listener))
    assert set(Path("/proc/self/fd").iterdir()) == before
