"""The use of an item by the action that it allows, and why a challenge allows none."""

from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from stepup.domain.actor import Actor, CallerId
from stepup.domain.challenge import Approval, Challenge, ChallengeState
from stepup.domain.operations import OperationId
from stepup.domain.receipts import Origin, Redemption
from stepup.domain.values import value


@unique
class ChallengeRejection(StrEnum):
    """Why a challenge did not allow an action."""

    UNKNOWN = "unknown"
    OTHER_SESSION = "other_session"
    NOT_AN_ITEM = "not_an_item"
    ITEM_USED = "item_used"
    PENDING = "pending"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REVOKED = "revoked"


@unique
class Stranger(StrEnum):
    """The owner of a challenge that the answer calls unknown: for the decision log only."""

    OTHER_TENANT = "other_tenant"
    OTHER_USER = "other_user"
    OTHER_CALLER = "other_caller"


_REJECTIONS: Final = {
    state: ChallengeRejection(state.value)
    for state in ChallengeState
    if state is not ChallengeState.APPROVED
}


@value
class UsedItem:
    """An item that allowed an action.

    `use` is the use by this check. If this check is a resend (`is_repeated`), `use` is the use by
    the first check.
    """

    challenge: Challenge
    use: Redemption
    is_repeated: bool = False

    @property
    def approval(self) -> Approval:
        """The approval of the challenge."""
        approval = self.challenge.approval
        assert approval is not None  # noqa: S101  # no item of another challenge is used
        return approval

    @property
    def origin(self) -> Origin:
        """The origin of the action's receipt: the approval, and the first use of the item."""
        return self.approval.origin(self.use.redeemed_at)


@value
class RefusedChallenge:
    """A challenge that did not allow an action, and why.

    `stranger` names the owner of a challenge that the answer calls unknown: for the log only.
    """

    rejection: ChallengeRejection
    stranger: Stranger | None = None


def fit(
    challenge: Challenge | None,
    caller: CallerId,
    actor: Actor,
    now: datetime,
    *,
    operation: OperationId,
    target: str,
) -> int | RefusedChallenge:
    """The place of the item that may allow an action now, or the reason why no item may.

    The item may have been used before: only the statement that uses an item can find out (S19).

    Args:
        challenge: a challenge of the actor's tenant; None if the tenant has no such challenge.
        caller: the caller that checks the action.
        actor: the person of the check.
        now: when the server received the check.
        operation: the operation of the action.
        target: the target of the action.
    """
    if challenge is None:
        return RefusedChallenge(ChallengeRejection.UNKNOWN)
    if not challenge.is_of(actor):
        return RefusedChallenge(ChallengeRejection.UNKNOWN, Stranger.OTHER_USER)
    if challenge.caller != caller:
        return RefusedChallenge(ChallengeRejection.UNKNOWN, Stranger.OTHER_CALLER)
    if challenge.session_hash != actor.session_hash:
        return RefusedChallenge(ChallengeRejection.OTHER_SESSION)
    state = challenge.state_at(now)
    if state is not ChallengeState.APPROVED:
        return RefusedChallenge(_REJECTIONS[state])
    place = challenge.find_item(operation, target)
    return RefusedChallenge(ChallengeRejection.NOT_AN_ITEM) if place is None else place
