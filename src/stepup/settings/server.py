"""The settings of the gRPC server."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stepup.settings.section import Listener, address
from stepup.system.loopback import is_loopback

_UNIX: Final = "unix:"
_SOCKET_PATH = re.compile(r"(?:/[A-Za-z0-9._@+-]+)+")
_MAX_SOCKET_PATH: Final = 107  # unix(7)


def _server_address(value: str) -> str:
    if not value.startswith(_UNIX):
        return address(value)
    path = value.removeprefix(_UNIX)
    # gRPC reads the value as a URI: other characters would have a meaning of their own.
    if not _SOCKET_PATH.fullmatch(path) or len(path) > _MAX_SOCKET_PATH:
        raise ValueError(
            "must be HOST:PORT, or unix:/PATH with an absolute path of letters, digits and ._@+-,"
            f" {_MAX_SOCKET_PATH} characters at most"
        )
    return value


class ServerSettings(Listener):
    """Where and how the gRPC server listens."""

    listen: Annotated[str, AfterValidator(_server_address)] = "127.0.0.1:50051"
    """HOST:PORT, where port 0 takes a free port and the log says which. Without `[tls]` the host
    must be a loopback address. Or `unix:/PATH`: see [unix sockets](operating.md#unix-sockets)."""
    socket_group_may_connect: bool = False
    """Whether the group of a unix socket may connect to it (mode 0660), and not only its owner
    (0600)."""
    insecure: bool = False
    """Whether to serve callers without credentials, for a trial on this machine: see
    [callers](operating.md#callers)."""
    insecure_anyone_on_the_network_is_trusted: bool = False
    """Whether to serve callers without credentials and without TLS on any address: every program
    that reaches the server may do everything. Never set it for real tenants: see
    [callers](operating.md#callers)."""
    engine: Literal["auto", "core", "aio"] = "auto"
    """What carries the calls. `core` is several times as fast as `aio`, and runs only on the
    versions of grpcio that it is tested with; `auto` takes `core` on those versions. See
    [engines](operating.md#engines)."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes serve, one per core: see [workers](operating.md#workers)."""
    drain_seconds: Annotated[float, Field(ge=0, le=300)] = 10.0
    """How many seconds calls in flight may take to finish after SIGTERM."""
    max_connection_age: Annotated[
        timedelta, Field(ge=timedelta(seconds=10), le=timedelta(hours=1))
    ] = timedelta(hours=1)
    """After how long clients have to connect again, give or take a tenth: then a load balancer may
    give them another server. The server checks client certificates when a connection opens, so the
    limit is an hour. See [connections](operating.md#connections)."""

    @model_validator(mode="after")
    def _demand_shareable_address(self) -> Self:
        if self.socket is not None and self.workers > 1:
            raise ValueError("workers: several cannot listen on one unix socket: use HOST:PORT")
        return self

    @property
    def socket(self) -> Path | None:
        """The path of the unix socket; None if the server listens on a host and port."""
        path = self.listen.removeprefix(_UNIX)
        return None if path == self.listen else Path(path)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the server."""
        return self.socket is not None or is_loopback(self.host)
