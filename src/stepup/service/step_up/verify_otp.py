"""`VerifyOtp`: evaluate the code that the person typed; a right code elevates the session."""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from stepup.domain.audit import Event, EventKind, written
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.domain.elevation import LIFETIME, Elevation, Outcome, Verification
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.totp import OtpCode, StepMatch, match, next_code_after
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_near_miss, count_spent_session, count_verification
from stepup.service.ports import Database, Keys, RecordedOutcomes, Records, RequestKey
from stepup.service.step_up.attempts import Attempts, record_refusal
from stepup.service.step_up.elevated import Elevated

_OUTCOMES = {
    Attempt.VERIFIED: Outcome.VERIFIED,
    Attempt.WRONG: Outcome.REJECTED,
    Attempt.REPLAYED: Outcome.REJECTED,
    Attempt.REPEATED: Outcome.REJECTED,
    Attempt.LATE: Outcome.REJECTED,
    Attempt.EARLY: Outcome.REJECTED,
    Attempt.THROTTLED: Outcome.THROTTLED,
    Attempt.SUSPENDED: Outcome.SUSPENDED,
    Attempt.SESSION_SPENT: Outcome.SESSION_SPENT,
}


class VerifyOtp:
    """Evaluates codes, one at a time for each user, and answers only what is committed (S3)."""

    def __init__(
        self,
        database: Database,
        elevated: Elevated,
        outcomes: RecordedOutcomes,
        keys: Keys,
        back_steps: int = 0,
    ) -> None:
        self._database = database
        self._elevated = elevated
        self._outcomes = outcomes
        self._keys = keys
        self._back_steps = back_steps
        self._attempts = Attempts[Verification]()

    async def __call__(
        self, context: Context, code: OtpCode, request_id: UUID | None = None
    ) -> Verification:
        """Make one attempt, or answer the recorded outcome of the same request.

        An attempt that has begun is finished and recorded even if the call is cancelled: a resend
        then finds the outcome, and not a code that was used up for nothing. A call that is
        cancelled before its turn makes no attempt (`Attempts`).

        Raises:
            InvalidFieldError: the request id was used for another request.
            StoreUnavailableError: the outcome could not be committed, or not be put into effect.
        """
        attempt = self._attempt(context, code, request_id)
        return await self._attempts.make(context.actor.tenant_id, attempt)

    async def drain(self) -> None:
        """Wait for the attempts whose callers have given up."""
        await self._attempts.drain()

    async def _attempt(
        self, context: Context, code: OtpCode, request_id: UUID | None
    ) -> Verification:
        if request_id is None:
            return await self._put_into_effect(await self._commit(context, code))
        key = RequestKey(context.actor.tenant_id, context.actor.user_id, request_id)
        fingerprint = self._keys.fingerprint(
            context.caller, context.actor.session_hash, code.digits
        )
        recorded = await self._outcomes.claim(key, fingerprint)
        if recorded is not None and await self._still_holds(recorded, context):
            return recorded
        try:
            committed = await self._commit(context, code)
        except Exception:
            # No attempt was made: a resend may make it.
            with suppress(StoreUnavailableError):
                await self._outcomes.release(key)
            raise
        verification = await self._put_into_effect(committed)
        await self._outcomes.record(key, fingerprint, verification)
        return verification

    async def _still_holds(self, recorded: Verification, context: Context) -> bool:
        """Whether a recorded outcome may be answered; otherwise the code is evaluated again.

        A revocation ends what an outcome says (S10), and Redis may give one back that it should
        have forgotten (S25). A code that was right is used up: the attempt is rejected (S2).
        """
        elevation = recorded.elevation
        if elevation is None:
            return True
        if not elevation.is_live(context.now) or await self._elevated.find_live(context) is None:
            return False
        # The live elevation may be of a later code, given after a revocation.
        return not self._elevated.snapshots.revocations().void(elevation)

    async def _commit(self, context: Context, code: OtpCode) -> Verification:
        async with self._database.transaction(context.actor.tenant_id) as records:
            authenticator = await records.authenticators.find_for_update(
                context.actor.tenant_id, context.actor.user_id
            )
            if authenticator is None:
                not_enrolled = Verification(Outcome.NOT_ENROLLED)
                count_verification(not_enrolled)
                return not_enrolled
            session, now = context.actor.session_hash, context.now
            refusal = authenticator.refusal(session, now)
            if refusal is None:
                authenticator, attempt = await self._evaluate(records, context, authenticator, code)
            else:
                attempt = refusal
                await record_refusal(records, context, authenticator, attempt, "one_time")
        # The block has committed: nothing is counted or returned before that (S3).
        if refusal is None and authenticator.is_spent(session, now):
            count_spent_session()
        verification = Verification(
            _OUTCOMES[attempt],
            elevate(context, authenticator.enrollment_id) if attempt is Attempt.VERIFIED else None,
            authenticator.attempts_remaining(session, now),
            timedelta()
            if attempt is Attempt.SESSION_SPENT
            else authenticator.throttle.retry_after(now),
            next_code_after(now) if attempt.counts_nowhere else timedelta(),
        )
        count_verification(verification, attempt)
        return verification

    async def _put_into_effect(self, verification: Verification) -> Verification:
        if verification.elevation is not None:
            await self._elevated.elevations.replace(verification.elevation)
        return verification

    async def _evaluate(
        self, records: Records, context: Context, authenticator: Authenticator, code: OtpCode
    ) -> tuple[Authenticator, Attempt]:
        secret = self._keys.open(
            authenticator.sealed_secret,
            authenticator.tenant_id,
            authenticator.user_id,
            authenticator.enrollment_id,
        )
        session, now = context.actor.session_hash, context.now
        used_step = authenticator.history.used_step(session)
        matched = match(secret, code, now, self._back_steps, used_step)
        count_near_miss(matched)
        after, attempt = authenticator.attempted(matched, session, now)
        if after == authenticator:
            return after, attempt  # it counts nowhere, and the first one is on record
        await records.authenticators.save(after)
        if attempt is Attempt.VERIFIED:
            event = context.event(
                EventKind.OTP_VERIFIED, enrollment_id=after.enrollment_id, step=matched.step
            )
        else:
            event = _rejected(context, after, attempt, matched)
        await records.audit.append(event)
        return after, attempt


def elevate(context: Context, enrollment_id: str) -> Elevation:
    """The elevation that a code received now earns the session."""
    return Elevation(
        tenant_id=context.actor.tenant_id,
        user_id=context.actor.user_id,
        session_hash=context.actor.session_hash,
        enrollment_id=enrollment_id,
        verified_at=context.now,
        expires_at=context.now + LIFETIME,
    )


def _rejected(
    context: Context, after: Authenticator, attempt: Attempt, matched: StepMatch
) -> Event:
    locked_until = after.throttle.locked_until
    return context.event(
        EventKind.OTP_REJECTED,
        enrollment_id=after.enrollment_id,
        cause=attempt.value,
        near_miss=matched.near_miss,
        failures_in_a_row=after.throttle.in_a_row,
        locked_until=written(locked_until) if locked_until else None,
        suspended=after.throttle.is_suspended,
        session_spent=after.is_spent(context.actor.session_hash, context.now),
    )
