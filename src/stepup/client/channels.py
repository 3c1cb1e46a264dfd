"""How clients reach a server: the target, the options of grpc, and when credentials are needed."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

import grpc

from stepup.client.credentials import CallerCredentials
from stepup.system.loopback import NO_GRPC_PROXY, is_local_target

Options: TypeAlias = Sequence[tuple[str, str | int]]

SERVICE_CONFIG: Final = json.dumps(
    json.loads(Path(__file__).with_name("service_config.json").read_bytes())
)
"""The published retry advice, for channels of your own: `grpc.service_config`.

It resends checks and reads on UNAVAILABLE, and on CANCELLED, which a server that ends answers to
calls that it has not begun. A check with a receipt or a challenge must have a request id.
"""
_KEEPALIVE: Final = timedelta(seconds=20)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is, and how a client speaks to it. The arguments of the clients explain it.

    Raises:
        ValueError: the target is not on this machine and there are no credentials, or credentials
            would be sent in plain text.
    """

    target: str
    credentials: CallerCredentials | grpc.ChannelCredentials | None = None
    insecure: bool = False
    options: Options = ()

    def __post_init__(self) -> None:
        if self.credentials is not None and self.insecure:
            raise ValueError("insecure=True would send credentials in plain text: leave one out")
        if self.credentials is None and not self.insecure and not is_local_target(self.target):
            raise ValueError(
                f"{self.target!r} is not an address of this machine, and needs credentials. For"
                " trials on a network that you trust, pass insecure=True: everybody on that network"
                " can read codes, and answer that actions are allowed"
            )

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """The credentials for a new channel; None for plain text."""
        if isinstance(self.credentials, CallerCredentials):
            return self.credentials.channel
        return self.credentials

    def apart(self) -> Endpoint:
        """Return the same endpoint for channels that share no connection with others."""
        return replace(self, options=(*self.options, ("grpc.use_local_subchannel_pool", 1)))

    def renew(self) -> bool:
        """Look at the files of the credentials; whether new channels differ from earlier ones."""
        return isinstance(self.credentials, CallerCredentials) and self.credentials.renew()

    @property
    def has_token(self) -> bool:
        """Whether calls carry a bearer token."""
        return isinstance(self.credentials, CallerCredentials) and self.credentials.has_token

    def token(self) -> str | Awaitable[str]:
        """Return the bearer token of a call, or an awaitable of it; empty if there is none."""
        return self.credentials.token() if isinstance(self.credentials, CallerCredentials) else ""

    def channel_options(self) -> Options:
        """The options of a new channel; those of the caller win.

        No channel uses a proxy of the environment: the proxy could read codes in plain text, and
        answer that actions are allowed.
        """
        return (
            ("grpc.service_config", SERVICE_CONFIG),
            *NO_GRPC_PROXY,
            ("grpc.keepalive_time_ms", _KEEPALIVE // _MILLISECOND),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE // _MILLISECOND // 2),
            ("grpc.keepalive_permit_without_calls", 1),
            # The default allows two pings without data, after which a frozen server goes unnoticed.
            ("grpc.http2.max_pings_without_data", 0),
            # A server that was restarted is found within seconds.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5000),
            *self.options,
        )
