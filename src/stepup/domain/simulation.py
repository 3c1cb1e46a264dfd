"""Recorded checks under another policy, decided by the rules that decide real checks.

A simulation assumes:

- A person does at once what an answer demands: gives a code, enrols, or approves a challenge.
- A person gives a code for no other reason, and nothing ends an elevation before its time: no
  sign-out, no revocation, no end of an authenticator.
- Callers present the claims, receipts and challenges that they presented when the checks were
  recorded. So the retry of an action that needed no code then has no receipt.
- A person has an authenticator from the beginning if the first decision that depends on one shows
  it (`Beginning`). A person without one never had one.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Self
from uuid import UUID

from stepup.domain.actor import Actor, CallerId, SessionHash, SessionId, TenantId, UserId
from stepup.domain.challenge import Challenge, Message
from stepup.domain.decision import Decision, Facts, Reason, Verdict, decide
from stepup.domain.elevation import LIFETIME, Elevation
from stepup.domain.item_use import UsedItem
from stepup.domain.operations import Operation
from stepup.domain.policy import Policy
from stepup.domain.receipts import (
    Origin,
    Receipt,
    ReceiptRejection,
    Redeemed,
    Redemption,
    RefusedReceipt,
    digest,
)
from stepup.domain.values import value

SHOW_AUTHENTICATOR: Final = frozenset(
    {
        Reason.ELEVATED,
        Reason.NOT_ELEVATED,
        Reason.ELEVATION_TOO_OLD,
        Reason.EVERY_TIME,
        Reason.CHALLENGE_APPROVED,
        Reason.EXEMPT_TIMED_OUT_RETRY,
    }
)
"""The reasons of decisions about people who have an authenticator."""
SHOW_NONE: Final = frozenset({Reason.NOT_ENROLLED, Reason.ENROLLMENT_GRACE})
"""The reasons of decisions about people who have none. Other reasons do not depend on one."""

_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_REFUSED: Final = RefusedReceipt(ReceiptRejection.NOT_AUTHENTIC)
# The rules ask only if a proof is valid, so these values replace each valid proof on record.
_USE: Final = Redemption(UUID(int=0), _NEVER)
_REDEEMED: Final = Redeemed(Receipt(UUID(int=0), Origin(_NEVER, _NEVER, digest(""))), _USE)
_USED_ITEM: Final = UsedItem(
    Challenge(
        challenge_id=UUID(int=0),
        tenant_id=TenantId("-"),
        user_id=UserId("-"),
        session_hash=SessionHash("-"),
        caller=CallerId("-"),
        requested_by="-",
        message=Message("-"),
        items=(),
        created_at=_NEVER,
        expires_at=_NEVER,
    ),
    _USE,
)


@value
class RecordedCheck:
    """A check as the decision log has it.

    The session id of `actor` is the recorded hash of the session. The actor presents a receipt and
    a challenge only if the recorded check used them with success. `first_authorised_at` is the time
    of the receipt's first authorisation, and None if and only if the actor presents none.
    """

    actor: Actor
    operation: Operation
    decided_at: datetime
    first_authorised_at: datetime | None = None


@value
class Beginning:
    """What a person had before the first recorded check."""

    enrolled: bool = False
    account_mfa: bool = False

    @classmethod
    def shown_by(cls, evidence: Reason | None, sign_in: Reason | None) -> Self:
        """The beginning that a person's first decisions show.

        An enrollment turns on the MFA of the person's account.

        Args:
            evidence: the first recorded reason that is in SHOW_AUTHENTICATOR or SHOW_NONE; None if
                no decision has one.
            sign_in: the reason of the person's first recorded sign-in; None without a sign-in.
        """
        enrolled = evidence in SHOW_AUTHENTICATOR
        return cls(enrolled, enrolled and sign_in is not Reason.MFA_NOT_ENABLED)


class SimulatedPerson:
    """One person under a policy. Give `check` the person's calls in the order of their times."""

    def __init__(self, policy: Policy, beginning: Beginning) -> None:
        self._policy = policy
        self._enrolled_since = _NEVER if beginning.enrolled else None
        self._account_mfa = beginning.account_mfa
        self._elevations: dict[SessionId, Elevation] = {}

    def check(self, call: Sequence[RecordedCheck]) -> list[Verdict]:
        """Decide the checks of one call; then do at once what the verdicts demand."""
        for each in call:
            if each.actor.challenge_id is not None:  # the person has approved the challenge
                self._enrol(each.decided_at)
        verdicts = [self._decide(each) for each in call]
        for each, verdict in zip(call, verdicts, strict=True):
            if verdict.decision is Decision.ENROLLMENT_REQUIRED:
                self._enrol(each.decided_at)
                self._elevate(each)
            elif verdict.decision is Decision.STEP_UP_REQUIRED and not verdict.needs_challenge:
                self._elevate(each)
        return verdicts

    def _decide(self, check: RecordedCheck) -> Verdict:
        enrolled = self._enrolled_since is not None
        facts = Facts(
            elevation=self._elevations.get(check.actor.session_id),
            enrolled=enrolled,
            account_mfa=self._account_mfa,
            ever_enrolled=enrolled,
        )
        verdict = decide(
            check.operation,
            check.actor,
            self._policy,
            check.decided_at,
            facts,
            redemption=self._redemption(check.first_authorised_at),
            use_of_item=None if check.actor.challenge_id is None else _USED_ITEM,
        )
        assert isinstance(verdict, Verdict)  # noqa: S101  # all that a rule may need is given
        return verdict

    def _redemption(self, authorised_at: datetime | None) -> Redeemed | RefusedReceipt | None:
        """The receipt of the first authorisation. An action that enroll_by allowed earned none."""
        if authorised_at is None:
            return None
        enrolled_since = self._enrolled_since
        was_enrolled = enrolled_since is not None and enrolled_since <= authorised_at
        return _REDEEMED if was_enrolled or not self._policy.in_grace(authorised_at) else _REFUSED

    def _enrol(self, now: datetime) -> None:
        if self._enrolled_since is None:
            self._enrolled_since = now
            self._account_mfa = True

    def _elevate(self, check: RecordedCheck) -> None:
        actor, now = check.actor, check.decided_at
        self._elevations[actor.session_id] = Elevation(
            tenant_id=actor.tenant_id,
            user_id=actor.user_id,
            session_hash=actor.session_hash,
            enrollment_id="",
            verified_at=now,
            expires_at=now + LIFETIME,
        )
