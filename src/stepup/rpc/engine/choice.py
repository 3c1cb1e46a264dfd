"""Chooses the engine that serves."""

from typing import Final, Literal, TypeAlias

import grpc
import structlog
from prometheus_client import Gauge

from stepup.rpc.engine import MakeEngine
from stepup.rpc.engine.aio import AioEngine

Choice: TypeAlias = Literal["auto", "core", "aio"]

CONFORMING: Final = frozenset({"1.85.1", "1.85.3"})
"""The versions of grpcio with which the core engine passes the conformance suite:
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
    """Choose an engine; `auto` chooses core if the version of grpcio is in `CONFORMING`.

    Raises:
        ImportError: core is chosen, and this version of grpcio lacks its interface.
    """
    is_conforming = grpc.__version__ in CONFORMING
    name = choice if choice != "auto" else "core" if is_conforming else "aio"
    for each in _NAMES:
        _engine.labels(each).set(each == name)
    _log.info("engine_chosen", engine=name, asked=choice, grpcio=grpc.__version__)
    if name == "aio":
        return AioEngine
    # Imported only if chosen: with another version of grpcio, the import may fail.
    from stepup.rpc.engine.core import CoreEngine  # noqa: PLC0415

    return CoreEngine
