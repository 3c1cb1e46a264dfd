"""The log of decisions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from stepup.domain.actor import CallerId
from stepup.domain.audit import Json
from stepup.domain.values import value


@value
class DecisionEntry:
    """One line of the decision log: JSON values by name, never a secret."""

    decision_id: UUID
    decided_at: datetime
    caller: CallerId
    facts: Mapping[str, Json]


class DecisionLog(Protocol):
    """The log in which every decision is recorded before it is answered (S13)."""

    async def record(self, entries: Sequence[DecisionEntry]) -> None:
        """Write entries, in order. When the call returns, they have left the process."""
        ...
