"""Answers of the service to a check: the tests of each guard use all of them."""

from dataclasses import dataclass, field
from datetime import timedelta

from stepup.client import (
    ActorContext,
    Allowed,
    EnrollmentRequired,
    StepUpRequired,
    UnavailableError,
)

ACTOR = ActorContext(tenant_id="acme", user_id="bob", session_id="monday")
ALLOWED = Allowed(reason="ELEVATED", decision_id="d-1", receipt="r-1")
REFUSALS = {
    "step-up": StepUpRequired(
        reason="NOT_ELEVATED",
        decision_id="d-2",
        max_age=timedelta(minutes=15),
        detail="EXPIRED",
    ),
    "challenge": StepUpRequired(reason="EVERY_TIME", decision_id="d-3", needs_challenge=True),
    "enrollment": EnrollmentRequired(decision_id="d-4", max_age=timedelta(minutes=5)),
    "unavailable": UnavailableError(
        "UNAVAILABLE: secret of a store",
        reason="STORE_UNAVAILABLE",
        retry_after=timedelta(seconds=1.5),
    ),
}


@dataclass
class FixedAnswer:
    """Gives every check the same answer, and records the checks."""

    answer: object
    asked: list = field(default_factory=list)

    def check(self, actor, operation, *, target=""):
        self.asked.append((actor.user_id, operation, target))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class AsyncFixedAnswer(FixedAnswer):
    """A `FixedAnswer` for asynchronous programs."""

    async def check(self, actor, operation, *, target=""):
        return super().check(actor, operation, target=target)
