"""One call, as handlers see it: the same on any gRPC engine, and in tests with none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from stepup.domain.actor import Actor, CallerId
from stepup.service.context import Context


@dataclass(frozen=True, slots=True)
class Invocation:
    """What an engine knows of a call before anything of it is believed.

    `metadata` are the request's key-value pairs, keys in lower case; `peer` is the address that the
    connection comes from.
    """

    peer: str
    metadata: Sequence[tuple[str, str | bytes]] = ()

    def header(self, key: str) -> str:
        """The first text value of a metadata key; empty when there is none."""
        return next((v for k, v in self.metadata if k == key and isinstance(v, str)), "")


@dataclass(frozen=True, slots=True)
class Call:
    """An admitted call: who called, when it was received (S1), and the id it has in the log."""

    caller: CallerId
    received_at: datetime
    request_id: str

    def on_behalf_of(self, actor: Actor) -> Context:
        """The call as the use cases see it."""
        return Context(self.caller, actor, self.received_at)
