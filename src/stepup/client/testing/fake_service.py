"""The decisions of the fake: the rules that most programs meet, in memory."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from threading import Condition
from typing import Any, Final, TypeAlias

from stepup.client.answers import Answer, EnrollmentRequired, StepUpRequired
from stepup.v1.actor_pb2 import ActorContext
from stepup.v1.challenge_service_pb2 import (
    CHALLENGE_STATE_APPROVED,
    CHALLENGE_STATE_PENDING,
    AnswerChallengeResponse,
    CancelChallengeResponse,
    Challenge,
    ChallengeState,
    CreateChallengeResponse,
    DeclineChallengeResponse,
    GetChallengeResponse,
)
from stepup.v1.step_up_service_pb2 import (
    OUTCOME_NOT_ENROLLED,
    OUTCOME_REJECTED,
    OUTCOME_VERIFIED,
    REVOCATION_SCOPE_USER,
    BatchCheckStepUpResponse,
    CheckStepUpResponse,
    Decision,
    DecisionReason,
    RevokeElevationsResponse,
    VerifyOtpResponse,
)

CODE: Final = "123456"
"""The code that the authenticator of every person shows. It may be used again and again."""
LIFETIME: Final = timedelta(minutes=15)
"""How long an elevation or an approval lasts."""
_Session: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True)
class Failure(Exception):  # noqa: N818  # a test scripts it as a value
    """A call that ends with a status of gRPC, and a reason of the contract."""

    code: str = "UNAVAILABLE"
    reason: str = "STORE_UNAVAILABLE"


@dataclass(frozen=True)
class Asked:
    """A check that a program has sent."""

    actor: ActorContext
    operation: str
    target: str
    request_id: str

    @property
    def bound(self) -> tuple[str, ...]:
        """The fields to which a receipt of this check is bound."""
        return (*session_of(self.actor), self.operation, self.target)


@dataclass(frozen=True)
class Need:
    """The rule of an operation that needs a code."""

    max_age: timedelta
    every_time: bool


class FakeService:
    """The state of the fake, and its methods. A caller of any of them holds `changed`."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.now = datetime(2030, 1, 1, tzinfo=timezone.utc)
        self.asked: list[Asked] = []
        self.needs: dict[str, Need] = {}
        self.scripts: deque[Answer | Failure] = deque()
        self.elevated_at: dict[_Session, datetime] = {}
        self.without_authenticator: set[tuple[str, str]] = set()
        self._receipts: dict[str, tuple[str, ...]] = {}
        self._challenges: dict[str, tuple[Challenge, _Session]] = {}

    def check_step_up(self, request: Any) -> CheckStepUpResponse:
        """Decide one check."""
        asked = Asked(request.actor, request.operation, request.target, request.request_id)
        return self._decide(asked)

    def batch_check_step_up(self, request: Any) -> BatchCheckStepUpResponse:
        """Decide several checks."""
        decisions = []
        for check in request.checks:
            actor = ActorContext()
            actor.CopyFrom(request.actor)
            actor.retry_receipt = check.retry_receipt or actor.retry_receipt
            asked = Asked(actor, check.operation, check.target, request.request_id)
            decisions.append(self._decide(asked))
        return BatchCheckStepUpResponse(decisions=decisions)

    def verify_otp(self, request: Any) -> VerifyOtpResponse:
        """Elevate the session if the code is `CODE`."""
        if user_of(request.actor) in self.without_authenticator:
            return VerifyOtpResponse(outcome=OUTCOME_NOT_ENROLLED)
        if request.code != CODE:
            return VerifyOtpResponse(outcome=OUTCOME_REJECTED, attempts_remaining=4)
        self.elevated_at[session_of(request.actor)] = self.now
        response = VerifyOtpResponse(outcome=OUTCOME_VERIFIED, attempts_remaining=5)
        self._set_elevation(response, self.now)
        return response

    def revoke_elevations(self, request: Any) -> RevokeElevationsResponse:
        """End the elevation of the session, or all of the user's."""
        everything = request.scope == REVOCATION_SCOPE_USER
        self.end_elevations(request.actor, every_session=everything)
        return RevokeElevationsResponse()

    def create_challenge(self, request: Any) -> CreateChallengeResponse:
        """Create a challenge for the person of the session."""
        challenge = Challenge(
            challenge_id=str(uuid.uuid4()),
            state=CHALLENGE_STATE_PENDING,
            message=request.message,
            requested_by="test",
        )
        challenge.create_time.FromDatetime(self.now)
        challenge.expires_at.FromDatetime(self.now + timedelta(minutes=10))
        for item in request.items:
            challenge.items.add(
                operation=item.operation, target=item.target, label=item.label, needed=True
            )
        self._challenges[challenge.challenge_id] = challenge, session_of(request.actor)
        return CreateChallengeResponse(challenge=challenge)

    def get_challenge(self, request: Any) -> GetChallengeResponse:
        """Return a challenge."""
        return GetChallengeResponse(challenge=self.find(request.challenge_id))

    def answer_challenge(self, request: Any) -> AnswerChallengeResponse:
        """Approve a challenge if the code is `CODE`."""
        is_right = self.answer(request.challenge_id, request.code)
        return AnswerChallengeResponse(
            outcome=OUTCOME_VERIFIED if is_right else OUTCOME_REJECTED,
            challenge=self.find(request.challenge_id),
        )

    def decline_challenge(self, request: Any) -> DeclineChallengeResponse:
        """Decline a challenge."""
        self.end(self.find_pending(request.challenge_id), "DECLINED")
        return DeclineChallengeResponse(challenge=self.find(request.challenge_id))

    def cancel_challenge(self, request: Any) -> CancelChallengeResponse:
        """Cancel a challenge."""
        self.end(self.find(request.challenge_id), "CANCELLED")
        return CancelChallengeResponse(challenge=self.find(request.challenge_id))

    def _decide(self, asked: Asked) -> CheckStepUpResponse:
        self.asked.append(asked)
        if self.scripts:
            return _scripted(self.scripts.popleft())
        need = self.needs.get(asked.operation)
        if need is None:
            return _decided("ALLOWED", "OPERATION_NOT_SELECTED")
        if self._redeem(asked):
            return self._allowed(asked, "EXEMPT_TIMED_OUT_RETRY")
        if self._use_item(asked):
            return self._allowed(asked, "CHALLENGE_APPROVED")
        at = self.elevated_at.get(session_of(asked.actor))
        age = None if at is None else self.now - at
        if not need.every_time and at is not None and age is not None and age < need.max_age:
            response = self._allowed(asked, "ELEVATED")
            self._set_elevation(response, at)
            return response
        if user_of(asked.actor) in self.without_authenticator:
            response = _decided("ENROLLMENT_REQUIRED", "NOT_ENROLLED")
        elif need.every_time:
            response = _decided("STEP_UP_REQUIRED", "EVERY_TIME")
        elif age is not None and age < LIFETIME:
            response = _decided("STEP_UP_REQUIRED", "ELEVATION_TOO_OLD")
        else:
            response = _decided("STEP_UP_REQUIRED", "NOT_ELEVATED")
        if need.every_time:
            response.requirement.challenge = True
        else:
            response.requirement.max_age.FromTimedelta(need.max_age)
        return response

    def _allowed(self, asked: Asked, reason: str) -> CheckStepUpResponse:
        response = _decided("ALLOWED", reason)
        response.receipt = f"receipt-{response.decision_id}"
        self._receipts[response.receipt] = asked.bound
        return response

    def _redeem(self, asked: Asked) -> bool:
        receipt = asked.actor.retry_receipt
        if self._receipts.get(receipt) != asked.bound:
            return False
        del self._receipts[receipt]
        return True

    def _use_item(self, asked: Asked) -> bool:
        challenge, session = self._challenges.get(asked.actor.challenge_id, (Challenge(), None))
        is_approved = challenge.state == CHALLENGE_STATE_APPROVED
        if not is_approved or session != session_of(asked.actor):
            return False
        if challenge.usable_until.ToDatetime(timezone.utc) <= self.now:
            return False
        for item in challenge.items:
            is_named = (item.operation, item.target) == (asked.operation, asked.target)
            if is_named and not item.HasField("used_at"):
                item.used_at.FromDatetime(self.now)
                return True
        return False

    def find(self, challenge_id: str) -> Challenge:
        """Return a challenge in its present state."""
        if challenge_id not in self._challenges:
            raise Failure("FAILED_PRECONDITION", "CHALLENGE_STATE")
        challenge, _ = self._challenges[challenge_id]
        is_pending = challenge.state == CHALLENGE_STATE_PENDING
        if is_pending and challenge.expires_at.ToDatetime(timezone.utc) <= self.now:
            self.end(challenge, "EXPIRED")
        return challenge

    def find_pending(self, challenge_id: str) -> Challenge:
        """Return a challenge that can be answered."""
        challenge = self.find(challenge_id)
        if challenge.state != CHALLENGE_STATE_PENDING:
            raise Failure("FAILED_PRECONDITION", "CHALLENGE_STATE")
        return challenge

    def answer(self, challenge_id: str, code: str) -> bool:
        """Approve a challenge; return whether the code is `CODE`."""
        challenge = self.find_pending(challenge_id)
        if code != CODE:
            return False
        challenge.usable_until.FromDatetime(self.now + LIFETIME)
        self.end(challenge, "APPROVED")
        return True

    def end(self, challenge: Challenge, state: str) -> None:
        """Change the state of a challenge."""
        challenge.state = ChallengeState.Value(f"CHALLENGE_STATE_{state}")
        challenge.answered_at.FromDatetime(self.now)
        self.changed.notify_all()

    def end_elevations(self, actor: ActorContext, *, every_session: bool) -> None:
        """End the elevation of a session, or all of its user."""
        for session in list(self.elevated_at):
            if session == session_of(actor) or (every_session and session[:2] == user_of(actor)):
                del self.elevated_at[session]

    def _set_elevation(self, response: Any, at: datetime) -> None:
        response.elevation.verified_at.FromDatetime(at)
        response.elevation.expires_at.FromDatetime(at + LIFETIME)


def session_of(actor: ActorContext) -> _Session:
    """Return the ids that name a session."""
    return actor.tenant_id, actor.user_id, actor.session_id


def user_of(actor: ActorContext) -> tuple[str, str]:
    """Return the ids that name a user."""
    return actor.tenant_id, actor.user_id


def _decided(decision: str, reason: str) -> CheckStepUpResponse:
    return CheckStepUpResponse(
        decision=Decision.Value(f"DECISION_{decision}"),
        reason=DecisionReason.Value(f"DECISION_REASON_{reason}"),
        decision_id=str(uuid.uuid4()),
    )


def _scripted(script: Answer | Failure) -> CheckStepUpResponse:
    if isinstance(script, Failure):
        raise script
    if isinstance(script, StepUpRequired | EnrollmentRequired):
        kind = "STEP_UP" if isinstance(script, StepUpRequired) else "ENROLLMENT"
        response = _decided(f"{kind}_REQUIRED", script.reason)
        response.requirement.challenge = script.needs_challenge
        if script.max_age is not None:
            response.requirement.max_age.FromTimedelta(script.max_age)
    else:
        response = _decided("ALLOWED", script.reason)
        response.receipt = script.receipt
    response.decision_id = script.decision_id or response.decision_id
    return response
