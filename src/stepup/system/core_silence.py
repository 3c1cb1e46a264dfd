"""Commands for people, without the log of grpcio's core (see `core_log` for servers)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_VERBOSITY: Final = "GRPC_VERBOSITY"


@contextmanager
def core_log_silent() -> Iterator[None]:
    """Have the core write nothing to standard error. Enter the block before grpc is imported.

    If an operator has set GRPC_VERBOSITY or GRPC_TRACE, nothing changes.
    """
    if {_VERBOSITY, "GRPC_TRACE"} & os.environ.keys():
        yield
        return
    os.environ[_VERBOSITY] = "NONE"
    try:
        yield
    finally:
        os.environ.pop(_VERBOSITY, None)
