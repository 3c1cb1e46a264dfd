"""`AnswerChallenge`: evaluate the code that the person typed; a right code approves a challenge."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from stepup.domain.audit import Event, EventKind, written
from stepup.domain.challenge import Challenge, ChallengeState
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import ChallengeStateError
from stepup.domain.totp import OtpCode
from stepup.domain.values import value
from stepup.service.calls.context import Context
from stepup.service.challenges.read import View, demand_own, view_of
from stepup.service.challenges.tallies import count_challenge
from stepup.service.challenges.waits import Waits
from stepup.service.ports import Database, Records
from stepup.service.step_up.codes import OneTimeCodes


@value
class Answered:
    """The outcome of an attempt, and its challenge. An approval elevates nothing."""

    verification: Verification
    view: View


@dataclass(frozen=True, slots=True)
class AnswerChallenge:
    """Approves challenges by one-time codes."""

    codes: OneTimeCodes
    database: Database
    waits: Waits

    async def __call__(
        self, context: Context, challenge_id: UUID, code: OtpCode, request_id: UUID | None = None
    ) -> Answered:
        """Make one attempt, or answer the recorded outcome of the same request.

        The view shows the challenge after the attempt; with a recorded outcome, its present
        state. See `OneTimeCodes.attempt`.

        Raises:
            ChallengeStateError: the challenge is unknown, belongs to another user, or is not
                pending. The server does not evaluate the code.
            InvalidFieldError: another request has used the request id.
            StoreUnavailableError: the outcome could not be committed.
        """
        effect = _ApprovedChallenge(context, challenge_id, self.database, self.waits)
        verification = await self.codes.attempt(context, code, effect, request_id)
        return Answered(verification, view_of(effect.challenge, context, context.now))


@dataclass(slots=True)
class _ApprovedChallenge:
    """Implements `CodeEffect`: approves the challenge in the transaction that uses the code up."""

    context: Context
    challenge_id: UUID
    database: Database
    waits: Waits
    challenge: Challenge = field(init=False)

    @property
    def purpose(self) -> Mapping[str, str]:
        return {"challenge_id": str(self.challenge_id)}

    async def prepare(self, records: Records) -> None:
        context = self.context
        found = await records.challenges.find_for_update(context.actor.tenant_id, self.challenge_id)
        self.challenge = demand_own(found, context)
        self.challenge.demand_pending(context.now)
        # Every revocation takes the lock of the authenticator, which this transaction holds. A
        # server of an earlier release may have revoked without ending the challenge (S10).
        revocations = await records.changes.revocations_of(
            self.challenge.tenant_id, self.challenge.user_id, self.challenge.session_hash
        )
        if self.challenge.was_ended_by(revocations):
            raise ChallengeStateError(ChallengeState.REVOKED)

    async def write(self, records: Records, enrollment_id: str, step: int) -> Event:
        context = self.context
        self.challenge = challenge = self.challenge.approved(
            context.now, context.actor.session_hash, enrollment_id
        )
        await records.challenges.save(challenge)
        return context.event(
            EventKind.CHALLENGE_APPROVED,
            None,
            enrollment_id=enrollment_id,
            step=step,
            items=[
                {"operation": item.operation, "target": item.target} for item in challenge.items
            ],
            usable_until=written(context.now + challenge.valid_for),
            **self.purpose,
        )

    async def finish(self, committed: Verification) -> Verification:
        if committed.outcome is Outcome.VERIFIED:
            count_challenge(self.challenge)
            self.waits.notify(self.challenge.tenant_id, self.challenge.user_id)
        return committed

    async def still_holds(self, recorded: Verification) -> bool:
        context = self.context
        async with self.database.snapshot(context.actor.tenant_id) as records:
            found = await records.challenges.find(context.actor.tenant_id, self.challenge_id)
        self.challenge = demand_own(found, context)
        # A fail-over of the database may have lost the approval, together with the use of the code.
        return (
            recorded.outcome is not Outcome.VERIFIED
            or self.challenge.stored_state is not ChallengeState.PENDING
        )
