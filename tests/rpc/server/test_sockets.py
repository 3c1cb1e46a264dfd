"""A server that listens on a unix socket, on each engine."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from stat import S_IMODE

import grpc
import pytest
from stepup_tests.certificates import authority
from stepup_tests.engines import make_engine
from stepup_tests.wire import ALL_WELL, Client, pipeline_of

from stepup.rpc.server.connections import end_listening
from stepup.rpc.server.server import Server
from stepup.v1 import policy_service_pb2 as policy

__all__ = ["make_engine"]
THEIRS = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=True) as theirs:
    print("listens", flush=True)
    while True:
        theirs.accept()[0].sendall(b"theirs")
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "stepup.sock"


@pytest.fixture
def make_server(worker, make_engine):
    return lambda: Server(pipeline_of(worker), worker.application.handlers, make_engine)


@pytest.fixture
async def server(make_server):
    server = make_server()
    yield server
    await server.stop(0)


async def answers(path, credentials=None):
    """Whether a server answers on a socket."""
    client = Client(f"unix:{path}")
    if credentials is not None:
        # A path is no name that a certificate has.
        options = (("grpc.ssl_target_name_override", "localhost"),)
        client.channel = grpc.aio.secure_channel(f"unix:{path}", credentials, options)
    answer = await client.channel.unary_unary("/stepup.v1.PolicyService/ListOperations")(
        policy.ListOperationsRequest().SerializeToString(), timeout=10
    )
    await client.channel.close()
    return bool(answer)


async def test_it_serves_and_removes_its_socket_at_the_end(server, path):
    await server.start_on_socket(path, to_group=False)
    await server.report(ALL_WELL)
    assert await answers(path)
    await server.stop(0)
    assert not path.exists()


@pytest.mark.parametrize(("to_group", "mode"), [(False, 0o600), (True, 0o660)])
async def test_s15_only_those_who_are_meant_to_may_connect(server, path, to_group, mode):
    """Whatever the mask of the process is."""
    before = os.umask(0)
    try:
        await server.start_on_socket(path, to_group=to_group)
    finally:
        os.umask(before)
    assert S_IMODE(path.stat().st_mode) == mode


async def test_tls_is_spoken_there_as_well(server, path):
    servers = authority("servers")
    certificate = servers.server()
    credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
    await server.start_on_socket(path, credentials, to_group=False)
    assert await answers(path, grpc.ssl_channel_credentials(servers.chain))


async def test_a_socket_that_a_killed_server_has_left_is_replaced(server, path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    await server.start_on_socket(path, to_group=False)
    assert await answers(path)


async def test_s15_the_socket_of_another_server_is_left_alone(server, make_server, path):
    """gRPC itself would take its place."""
    await server.start_on_socket(path, to_group=False)
    second = make_server()
    with pytest.raises(OSError, match="another server"):
        await second.start_on_socket(path, to_group=False)
    await second.stop(0)
    assert await answers(path)


async def test_a_server_that_takes_no_more_connections_is_one(server, path):
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(OSError, match="another server"):
            await server.start_on_socket(path, to_group=False)


async def test_a_file_that_is_not_a_socket_is_left_alone(server, path):
    path.write_text("important")
    with pytest.raises(OSError, match="not a socket"):
        await server.start_on_socket(path, to_group=False)
    assert path.read_text() == "important"


async def test_a_directory_that_does_not_exist_is_an_error(server, path):
    with pytest.raises(OSError, match="cannot listen on"):
        await server.start_on_socket(path / "stepup.sock", to_group=False)


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
