"""Which engine serves."""

from typing import Final, Literal, TypeAlias

import grpc
import structlog
from prometheus_client import Gauge

from stepup.rpc.engine import MakeEngine
from stepup.rpc.engine.aio import AioEngine

Choice: TypeAlias = Literal["auto", "core", "aio"]

CONFORMING: Final = frozenset({"1.85.1", "1.85.3"})
"""The versions of grpcio that the conformance suite has passed on with the core engine:
`make engine-matrix`."""

_log = structlog.get_logger(__name__)
_engine = Gauge(
    "stepup_engine",
    "The engine that serves gRPC: 1 for the one chosen.",
    ["engine"],
    multiprocess_mode="livemax",
)
_NAMES: Final = ("core", "aio")


def engine_of(choice: Choice) -> MakeEngine:
    """The engine to make: `auto` takes core where grpcio is of a version that conforms.

    Raises:
        ImportError: core was asked for, and this grpcio has no such interface.
    """
    is_conforming = grpc.__version__ in CONFORMING
    name = choice if choice != "auto" else "core" if is_conforming else "aio"
    for each in _NAMES:
        _engine.labels(each).set(each == name)
    _log.info("engine_chosen", engine=name, asked=choice, grpcio=grpc.__version__)
    if name == "aio":
        return AioEngine
    # Imported only when it serves: with another grpcio the import itself may fail.
    from stepup.rpc.engine.core import CoreEngine  # noqa: PLC0415

    return CoreEngine
