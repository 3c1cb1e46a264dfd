"""One-time codes: an attempt evaluates one code, records the result, and applies the effect."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from stepup.domain.audit import Event, EventKind, written
from stepup.domain.authenticator import Attempt, Authenticator
from stepup.domain.elevation import Outcome, Verification
from stepup.domain.errors import StoreUnavailableError
from stepup.domain.totp import OtpCode, match, next_code_after
from stepup.service.calls.context import Context
from stepup.service.calls.tallies import count_near_miss, count_spent_session, count_verification
from stepup.service.ports import Database, Keys, RecordedOutcomes, Records, RequestKey
from stepup.service.step_up.attempts import Attempts, record_refusal

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


class CodeEffect(Protocol):
    """The effect of a right code. Each call makes its own effect."""

    @property
    def purpose(self) -> Mapping[str, str]:
        """The ids of what the code is for. Events have them, and a resend must have the same."""
        ...

    async def prepare(self, records: Records) -> None:
        """Lock the rows that the effect changes. The transaction holds the authenticator's lock.

        An error refuses the call before the server evaluates the code: the code does not count, and
        is not used up.
        """
        ...

    async def write(self, records: Records, enrollment_id: str, step: int) -> Event:
        """Write the effect in the transaction that uses the code up; return the event of both."""
        ...

    async def finish(self, committed: Verification) -> Verification:
        """Complete a committed attempt with a right or wrong code; return its outcome."""
        ...

    async def still_holds(self, recorded: Verification) -> bool:
        """Whether the recorded outcome is still true. If not, the code is evaluated again."""
        ...


class OneTimeCodes:
    """Evaluates codes, one at a time for each user, and answers only what is committed (S3)."""

    def __init__(
        self, database: Database, outcomes: RecordedOutcomes, keys: Keys, back_steps: int = 0
    ) -> None:
        self._database = database
        self._outcomes = outcomes
        self._keys = keys
        self._back_steps = back_steps
        self._attempts = Attempts[Verification]()

    async def attempt(
        self, context: Context, code: OtpCode, effect: CodeEffect, request_id: UUID | None
    ) -> Verification:
        """Make one attempt, or answer the recorded outcome of the same request.

        An attempt that has begun runs to its end even if the client cancels the call. The outcome
        is recorded, so that a resend finds the outcome and not a used code. A call that is
        cancelled before its turn makes no attempt (`Attempts`).

        Raises:
            InvalidFieldError: another request has used the request id.
            StoreUnavailableError: the outcome could not be committed, or its effect not applied.
        """
        attempt = self._attempt(context, code, effect, request_id)
        return await self._attempts.make(context.actor.tenant_id, attempt)

    async def drain(self) -> None:
        """Wait for the attempts whose calls were cancelled."""
        await self._attempts.drain()

    async def _attempt(
        self, context: Context, code: OtpCode, effect: CodeEffect, request_id: UUID | None
    ) -> Verification:
        if request_id is None:
            return await effect.finish(await self._commit(context, code, effect))
        key = RequestKey(context.actor.tenant_id, context.actor.user_id, request_id)
        named = [part for pair in effect.purpose.items() for part in pair]
        fingerprint = self._keys.fingerprint(
            context.caller, context.actor.session_hash, code.digits, *named
        )
        recorded = await self._outcomes.claim(key, fingerprint)
        if recorded is not None and await effect.still_holds(recorded):
            return recorded
        try:
            committed = await self._commit(context, code, effect)
        except Exception:
            # No attempt was made: a resend may make it.
            with suppress(StoreUnavailableError):
                await self._outcomes.release(key)
            raise
        verification = await effect.finish(committed)
        await self._outcomes.record(key, fingerprint, verification)
        return verification

    async def _commit(self, context: Context, code: OtpCode, effect: CodeEffect) -> Verification:
        session, now = context.actor.session_hash, context.now
        async with self._database.transaction(context.actor.tenant_id) as records:
            before = await records.authenticators.find_for_update(
                context.actor.tenant_id, context.actor.user_id
            )
            await effect.prepare(records)
            if before is None:
                not_enrolled = Verification(Outcome.NOT_ENROLLED)
                count_verification(not_enrolled)
                return not_enrolled
            after, attempt = await self._evaluate(records, context, before, code, effect)
        # The block has committed. Count and return nothing before the commit (S3).
        if after.is_spent(session, now) and not before.is_spent(session, now):
            count_spent_session()
        verification = Verification(
            _OUTCOMES[attempt],
            attempts_remaining=after.attempts_remaining(session, now),
            retry_after=timedelta()
            if attempt is Attempt.SESSION_SPENT
            else after.throttle.retry_after(now),
            next_code_after=next_code_after(now) if attempt.counts_nowhere else timedelta(),
        )
        count_verification(verification, attempt)
        return verification

    async def _evaluate(
        self,
        records: Records,
        context: Context,
        before: Authenticator,
        code: OtpCode,
        effect: CodeEffect,
    ) -> tuple[Authenticator, Attempt]:
        session, now = context.actor.session_hash, context.now
        refusal = before.refusal(session, now)
        if refusal is not None:
            await record_refusal(records, context, before, refusal, "one_time", **effect.purpose)
            return before, refusal
        secret = self._keys.open(
            before.sealed_secret, before.tenant_id, before.user_id, before.enrollment_id
        )
        used_step = before.history.used_step(session)
        matched = match(secret, code, now, self._back_steps, used_step)
        count_near_miss(matched)
        after, attempt = before.attempted(matched, session, now)
        if after == before:
            return after, attempt  # the attempt counts nowhere, and an event has the first such one
        await records.authenticators.save(after)
        if attempt is Attempt.VERIFIED:
            assert matched.step is not None  # noqa: S101  # no other code is right
            event = await effect.write(records, after.enrollment_id, matched.step)
        else:
            locked_until = after.throttle.locked_until
            event = context.event(
                EventKind.OTP_REJECTED,
                None,
                enrollment_id=after.enrollment_id,
                cause=attempt.value,
                near_miss=matched.near_miss,
                failures_in_a_row=after.throttle.in_a_row,
                locked_until=written(locked_until) if locked_until else None,
                suspended=after.throttle.is_suspended,
                session_spent=after.is_spent(session, now),
                **effect.purpose,
            )
        await records.audit.append(event)
        return after, attempt
