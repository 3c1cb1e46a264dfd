"""The context of a call: its actor, its caller and its time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from stepup.domain.actor import Actor, CallerId, UserId
from stepup.domain.audit import Event, EventKind, Json
from stepup.domain.callers import Grant
from stepup.domain.operations import OperationId


@dataclass(frozen=True, slots=True)
class Context:
    """The caller, known by its credentials; the actor it vouches for; the time of receipt.

    `request_id` names the call in every log. `identities` are what the credentials proved, sorted.
    `grants` says by operation which rules let the call in; None stands for a call that has none.
    """

    caller: CallerId
    actor: Actor
    now: datetime
    request_id: str
    identities: tuple[str, ...]
    grants: Mapping[OperationId | None, Grant]

    def event(self, kind: EventKind, subject: UserId | None = None, **details: Json) -> Event:
        """What happened in this call, to the actor unless a subject is given."""
        return Event(
            tenant_id=self.actor.tenant_id,
            kind=kind,
            occurred_at=self.now,
            caller=self.caller,
            actor_user_id=self.actor.user_id,
            subject_user_id=subject or self.actor.user_id,
            details={
                "session": self.actor.session_hash,
                "request_id": self.request_id,
                **details,
            },
        )
