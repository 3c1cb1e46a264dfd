"""The log of grpcio's core, which a server reads itself.

The core writes its log to descriptor 2 and waits there for a reader; it offers no other way. So a
server gives the core a descriptor 2 that never blocks. The server's own log and `sys.stderr` have
another descriptor (`configure_logging`).
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_TRACE: Final = ("GRPC_TRACE", "handshaker")
_STANDARD_ERROR: Final = 2
_READ_BYTES: Final = 64 * 1024


def choose_core_log() -> None:
    """Choose what the core logs: handshakes. Call it before grpc is imported, which reads this.

    Where an operator has set GRPC_VERBOSITY or GRPC_TRACE, these count, and the log stays on
    standard error.
    """
    if "GRPC_VERBOSITY" not in os.environ:
        os.environ.setdefault(*_TRACE)


@contextmanager
def core_log_read(handle: Callable[[bytes], object] | None) -> Iterator[None]:
    """Call `handle` with the octets of the log, on the running event loop, during the block.

    Begin before gRPC is first used. Without `handle` the log is dropped, and after the block as
    well. What a full pipe cannot hold is lost. Does nothing where an operator has chosen the log.
    """
    name, ours = _TRACE
    if os.environ.get(name) != ours:
        yield
        return
    del os.environ[name]  # children that use gRPC would log handshakes
    _lead_standard_error_to(os.open(os.devnull, os.O_WRONLY))
    if handle is None:
        yield
        return
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    _lead_standard_error_to(writing)

    def read() -> None:
        with suppress(BlockingIOError):
            handle(os.read(reading, _READ_BYTES))

    loop = asyncio.get_running_loop()
    loop.add_reader(reading, read)
    try:
        yield
    finally:
        loop.remove_reader(reading)
        _lead_standard_error_to(os.open(os.devnull, os.O_WRONLY))
        os.close(reading)


def _lead_standard_error_to(descriptor: int) -> None:
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)
