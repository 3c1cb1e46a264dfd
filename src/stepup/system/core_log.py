"""The log of grpcio's core, which a server reads itself.

The core writes its log to descriptor 2 and waits there for a reader; it offers no other way. So a
server gives the core a descriptor 2 that never blocks. The server's own log and `sys.stderr` have
another descriptor (`configure_logging`).
"""

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

_TRACE: Final = ("GRPC_TRACE", "handshaker")
_STANDARD_ERROR: Final = 2
_PIPE_BYTES: Final = 1024 * 1024
_PAUSE_SECONDS: Final = 0.05


def choose_core_log() -> None:
    """Have the core log handshakes. Call this before grpc is imported, which reads GRPC_TRACE.

    If an operator has set GRPC_VERBOSITY or GRPC_TRACE, nothing changes, and the log stays on
    standard error.
    """
    if "GRPC_VERBOSITY" not in os.environ:
        os.environ.setdefault(*_TRACE)


@contextmanager
def core_log_read(handle: Callable[[bytes], object] | None) -> Iterator[None]:
    """Call `handle` with the octets of the log, on the running event loop, during the block.

    Enter the block before gRPC is first used. The log is dropped if `handle` is None, after the
    block, and while its pipe is full. If `choose_core_log` changed nothing, this does nothing.
    """
    name, ours = _TRACE
    if os.environ.get(name) != ours:
        yield
        return
    del os.environ[name]  # children that use gRPC would log handshakes
    _redirect_standard_error(os.open(os.devnull, os.O_WRONLY))
    if handle is None:
        yield
        return
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    if sys.platform == "linux":
        with suppress(OSError):  # a user has a limit for all pipes together
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    _redirect_standard_error(writing)

    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(BlockingIOError):
            handle(os.read(reading, _PIPE_BYTES))
        # A handshake has some ten records, each a write: read them together.
        loop.remove_reader(reading)
        again[0] = loop.call_later(_PAUSE_SECONDS, loop.add_reader, reading, read)

    again: list[asyncio.Handle] = [loop.call_soon(loop.add_reader, reading, read)]
    try:
        yield
    finally:
        again[0].cancel()
        loop.remove_reader(reading)
        _redirect_standard_error(os.open(os.devnull, os.O_WRONLY))
        os.close(reading)


def _redirect_standard_error(descriptor: int) -> None:
    """Make descriptor 2 write where `descriptor` does, and close `descriptor`."""
    os.dup2(descriptor, _STANDARD_ERROR)
    os.close(descriptor)
